"""Starting servers on free ports, and ending them with everything that they started."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

STOP_S = 10.0


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str], directory: Path, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server; at the end it and all its descendants are gone."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield server
    finally:
        _end(server)


def post(port: int, path: str, body: bytes, timeout_s: float = 60.0) -> tuple[int, bytes]:
    """One request on a connection of its own: the status and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait_for_answer(
    server: subprocess.Popen[bytes], log: Path, port: int, path: str, body: bytes, limit_s: float
) -> bytes:
    """The first answer with status 200. Raises `RuntimeError` with the log when none comes."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s and server.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            status, answer = post(port, path, body)
            if status == 200:
                return answer
        time.sleep(0.2)
    raise RuntimeError(f"No answer from {server.args!r}:\n{log.read_text(errors='replace')[-3000:]}")


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
