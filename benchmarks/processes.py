"""Starting servers on free ports, and ending them with everything that they started."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

START_S = 120.0
STOP_S = 10.0
REQUEST_S = 60.0
JSON = "application/json"


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str | Path],
    directory: Path,
    environment: Mapping[str, str],
    log: Path,
    user: str | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server, as another user if one is named; at the end it and all its descendants are
    gone."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=user,
            group=user,
            extra_groups=None if user is None else (),
        )
    try:
        yield server
    finally:
        _end(server)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the headers' names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request(
    port: int, method: str, path: str, body: bytes | None = None, content_type: str = JSON
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_S)
    try:
        connection.request(method, path, body, {"Content-Type": content_type} if body else {})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())
    finally:
        connection.close()


def wait_for_answer(
    server: subprocess.Popen[bytes], log: Path, port: int, path: str, body: bytes | None
) -> bytes:
    """The first answer with status 200 to a POST, or to a GET without a body.

    Raises `RuntimeError` with the log when none comes.
    """
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and server.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            answer = request(port, "POST" if body else "GET", path, body)
            if answer.status == 200:
                return answer.body
        time.sleep(0.2)
    raise RuntimeError(
        f"No answer from {server.args!r}:\n{log.read_text(errors='replace')[-3000:]}"
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all its descendants at once, as a power cut would."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        for each in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait(STOP_S)


def _end(server: subprocess.Popen[bytes]) -> None:
    try:
        root = psutil.Process(server.pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(STOP_S)
    for process in psutil.wait_procs(family, timeout=1)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.wait()
