"""The node as a process: started in the background, awaited, found again, stopped."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dsfn.functions.errors import DsfnError, UsageError
from dsfn.runtime.cli.client import Client
from dsfn.runtime.cli.place import NodeFile, read_node_file

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
# What a node's process exits with when the command line or the configuration is wrong.
USAGE = 2
LOG_LINES = 20
_POLL_S = 0.05


def start(arguments: Sequence[str], directory: Path) -> NodeFile:
    """Starts `dsfn up` with these arguments as a daemon and waits until it takes calls.

    Its output goes to `node.log`. Raises `UsageError` or `DsfnError` with what the node
    said when it ended, and `DsfnError` when it is not ready in time.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "node.log"
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "dsfn", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    node = None
    try:
        node = _await_ready(process, directory)
        code = process.poll()
    finally:
        # Whoever presses Ctrl-C now wants no node either.
        if node is None:
            process.kill()
            process.wait()
    if node is not None:
        return node
    raise _failure(code, _tail(log, begin))


def _failure(code: int | None, words: str) -> DsfnError:
    """The error of a node that ended with `code`, None when it had to be stopped."""
    if code is None:
        return DsfnError(f"{words}\nThe node did not start within {START_TIMEOUT_S:g} s.".lstrip())
    kind = UsageError if code == USAGE else DsfnError
    return kind(words or f"The node ended before it took calls (exit code {code}).")


def _await_ready(process: subprocess.Popen[bytes], directory: Path) -> NodeFile | None:
    """The node once it takes calls; None when it has ended or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        node = read_node_file(directory)
        if node is not None and node.pid == process.pid and is_ready(node.url):
            return node
        time.sleep(_POLL_S)
    return None


def is_ready(url: str) -> bool:
    """Whether the node at `url` takes calls."""
    with Client(url) as client:
        return client.ready()


def running_node(directory: Path) -> NodeFile | None:
    """The node that holds this data directory's lock now, or None."""
    node = read_node_file(directory)
    if node is None:
        return None
    lock = os.path.realpath(directory / "node.lock")
    descriptors = Path(f"/proc/{node.pid}/fd")
    try:
        opened = [os.path.realpath(link) for link in descriptors.iterdir()]
    except OSError:
        return None
    return node if lock in opened else None


def stop(node: NodeFile) -> bool:
    """Ends a node: SIGTERM, then SIGKILL after 30 s. True when it ended by itself.

    The process is held by a descriptor, so that its number cannot become another's.
    """
    try:
        process = os.pidfd_open(node.pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if _ended(process, STOP_TIMEOUT_S):
            return True
        signal.pidfd_send_signal(process, signal.SIGKILL)
        _ended(process, STOP_TIMEOUT_S)
        return False
    except ProcessLookupError:
        return True
    except PermissionError as error:
        raise DsfnError(f"The node (pid {node.pid}) belongs to another user.") from error
    finally:
        os.close(process)


def _ended(process: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _tail(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:])
