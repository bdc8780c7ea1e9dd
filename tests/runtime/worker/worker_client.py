"""The node's side of the wire, blocking: what the tests speak to real processes with."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import textwrap
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsfn.runtime.libraries import LIBRARIES
from dsfn.runtime.replicas.begun import FROM_IMAGE
from dsfn.runtime.replicas.begun import environment as fork_server_environment
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.frames import Frame, FrameReader, Kind
from dsfn.runtime.worker.messages import Load, Message, Preload, Spawn

PATIENCE_S = 60.0

Socket = socket.socket  # classes here have fields of the module's name


@dataclass
class Worker:
    """A worker and the node's ends of its socket and output pipe."""

    pid: int
    socket: socket.socket
    output: int
    numbers: int = 0
    _reader: FrameReader = field(default_factory=FrameReader)
    _frames: deque[Frame] = field(default_factory=deque)

    def send(self, frame: bytes) -> None:
        self.socket.sendall(frame)

    def receive(self, timeout_s: float = PATIENCE_S) -> Frame:
        """The next frame. Raises `EOFError` when the worker has gone, or `TimeoutError`."""
        self.socket.settimeout(timeout_s)
        while not self._frames:
            data = self.socket.recv(1 << 18)
            if not data:
                raise EOFError
            found = self._reader.feed(data)
            self._frames.extend(frame for frame in found if frame.kind is not Kind.RESTORING)
        return self._frames.popleft()

    def load(self, bundle: Path, function: str, **changes: Any) -> Frame:
        """Sends LOAD and gives what comes back."""
        values: dict[str, Any] = {
            "bundle": str(bundle),
            "entry": "app.py",
            "function": function,
            "revision": f"{function}-0123456789",
            "snapshot": None,
            "blobs": str(bundle / "blobs"),
            "concurrency": 1,
            "memory_bytes": None,
            "env": {},
            "max_body_bytes": 1 << 20,
            "max_result_bytes": 1 << 20,
        }
        self.send(frames.encode_json(Kind.LOAD, Load(**{**values, **changes}).to_document()))
        return self.receive()

    def job(self, job: Message) -> Frame:
        """Sends JOB and gives what comes back."""
        self.begin_job(job)
        return self.receive()

    def begin_job(self, job: Message) -> None:
        """Sends JOB."""
        self.send(frames.encode_json(Kind.JOB, job.to_document()))

    def request(self, kind: Kind) -> None:
        """Sends a frame about the worker as a whole."""
        self.send(frames.encode_json(kind, {}))

    def begin(self, body: bytes, content_type: str = "application/json", threads: int = 1) -> int:
        """Sends CALL and gives its number."""
        self.numbers += 1
        self.send(frames.encode_call(self.numbers, threads, content_type, "*/*", body))
        return self.numbers

    def call(self, **arguments: object) -> Any:
        """Calls with JSON and gives the JSON result. Raises `Failed`."""
        return self.answer(self.begin(json.dumps(arguments).encode()))

    def answer(self, number: int) -> Any:
        """The JSON result of a call that was begun. Raises `Failed`."""
        frame = self.receive()
        assert frame.call == number
        if frame.kind is Kind.ERROR:
            raise Failed(frames.decode_error(frame.payload)[1])
        assert frame.kind is Kind.RESULT
        return json.loads(bytes(frames.decode_result(frame.payload).body))

    def printed(self, until: str) -> str:
        """What it has printed, as soon as that contains `until`."""
        text = ""
        while until not in text:
            ready, _, _ = select.select([self.output], [], [], PATIENCE_S)
            assert ready, f"printed only {text!r}"
            text += os.read(self.output, 1 << 16).decode()
        return text

    def close(self) -> None:
        self.socket.close()
        os.close(self.output)


class Failed(Exception):
    """A call was answered with an error document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(document["message"])
        self.error: str = document["error"]
        self.fields: Mapping[str, Any] = document["fields"]


@dataclass
class ForkServer:
    """A real fork server."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    ids: int = 0
    exits: dict[int, int] = field(default_factory=dict)

    def spawn(self, owner: Socket | None = None) -> Worker:
        """A new worker; `owner`, which is closed here, is its socket to a memory owner."""
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        self.ids += 1
        message = json.dumps(Spawn(self.ids).to_document()).encode()
        sent = [theirs.fileno(), write_end, *([] if owner is None else [owner.fileno()])]
        socket.send_fds(self.socket, [message], sent)
        theirs.close()
        if owner is not None:
            owner.close()
        os.close(write_end)
        spawned = self.hear("spawned")
        assert spawned["id"] == self.ids
        return Worker(spawned["pid"], ours, read_end)

    def preload(self, modules: list[str], timeout_s: float = 30.0) -> dict[str, Any]:
        self.begin_preload(modules, timeout_s)
        return self.hear("preloaded")

    def begin_preload(self, modules: list[str], timeout_s: float) -> None:
        self.socket.send(json.dumps(Preload(modules, timeout_s).to_document()).encode())

    def exit_status(self, worker: Worker) -> int:
        """The status that the fork server reports for a worker, once it has ended."""
        while worker.pid not in self.exits:
            self._receive()
        return self.exits[worker.pid]

    def hear(self, op: str) -> dict[str, Any]:
        while True:
            document = self._receive()
            if document["op"] == op:
                return document

    def _receive(self) -> dict[str, Any]:
        self.socket.settimeout(PATIENCE_S)
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError
        document: dict[str, Any] = json.loads(data)
        if document["op"] == "exited":
            self.exits[document["pid"]] = document["status"]
        return document


@contextmanager
def fork_server(path: Path | None = None, image: Path | None = None) -> Iterator[ForkServer]:
    """Starts a fork server, with `path` on its import path, from an image where there is one, and
    ends it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    program = [sys.executable, "-m", "dsfn.runtime.worker"]
    if image is not None:
        program, environment = [sys.executable, *FROM_IMAGE, str(image)], fork_server_environment()
    with theirs:
        process = subprocess.Popen(
            [*program, str(theirs.fileno()), ",".join(LIBRARIES)],
            pass_fds=[theirs.fileno()],
            env=environment,
            start_new_session=True,
        )
    try:
        with ours:
            yield ForkServer(process, ours)
    finally:
        process.wait(PATIENCE_S)


def make_image(path: Path) -> Path:
    """An image of a fork server with all libraries."""
    command = [sys.executable, "-m", "dsfn.runtime.worker.imaging", str(path), ",".join(LIBRARIES)]
    subprocess.run(command, env=fork_server_environment(), check=True, timeout=PATIENCE_S)
    return path


def write_app(directory: Path, source: str, name: str = "app.py") -> Path:
    """Writes a bundle's file; `dsfn` is imported already."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text("import dsfn\n" + textwrap.dedent(source))
    return directory


def wait_until_gone(pid: int) -> None:
    """Returns when no process has this number any more. Raises `TimeoutError`."""
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists() and "State:\tZ" not in _status(pid):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} lives on")
        time.sleep(0.01)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "State:\tZ"
