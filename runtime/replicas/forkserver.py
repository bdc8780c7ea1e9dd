"""The node's handle on a fork server: asks for workers, hears of their ends."""

from __future__ import annotations

import array
import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from dsfn.functions.errors import ReplicaStartFailed
from dsfn.functions.values import dataclass
from dsfn.runtime.libraries import LIBRARIES
from dsfn.runtime.replicas.begun import Begun, begin
from dsfn.runtime.worker.messages import Exited, Preload, Preloaded, Spawn, Spawned, SpawnFailed

if TYPE_CHECKING:
    from dsfn.runtime.deploy.confinement import Room

SPAWN_TIMEOUT_S = 60.0
PRELOAD_TIMEOUT_S = 120.0
CLOSE_TIMEOUT_S = 3.0
_MAX_MESSAGE_BYTES = 1 << 16

Socket = socket.socket


def signal_name(exit_code: int) -> str:
    """The name of the signal behind a negative exit code; most real-time signals have none."""
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"


@dataclass(eq=False, slots=True)
class WorkerProcess:
    """A worker fresh from the fork. `socket` and `output` belong to whoever adopts it, as does
    `owner`, the near end of its socket to the memory owner on a node with GPUs. `exited` gives
    the exit code (negative: the signal that ended it)."""

    pid: int
    socket: socket.socket
    output: int
    owner: Socket | None
    exited: asyncio.Future[int]

    def kill(self) -> None:
        """Ends the worker and all that it started."""
        if self.exited.done():
            return
        for send in (os.killpg, os.kill):
            try:
                send(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the worker alone."""
        if not self.exited.done():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def tell(self, frame: bytes) -> None:
        """Sends its first frame, which fits into the socket's buffer, before it is adopted."""
        self.socket.sendall(frame)

    def hear(self, size_bytes: int) -> bytes:
        """What it has answered to that, up to so much; nothing while it is at it."""
        try:
            return self.socket.recv(size_bytes)
        except OSError:
            return b""

    def hand_over(self) -> None:
        """The worker's socket to the memory owner is the owner's now, or not needed."""
        if self.owner is not None:
            self.owner.close()

    def close(self) -> None:
        """Gives the descriptors back, where no one has adopted the worker."""
        self.socket.close()
        os.close(self.output)
        if self.owner is not None:
            self.owner.close()


@dataclass(eq=False, slots=True)
class _Birth:
    socket: socket.socket
    output: int
    owner: Socket | None
    born: asyncio.Future[WorkerProcess]


@dataclass(eq=False)
class ForkServer:
    """One fork server process; started on first use and again whenever it has died. `gpus`:
    whether its workers get a socket to the memory owner, and are born with what talks to it;
    `libraries`: what it imports ahead; `begun`: the process, where there is one already."""

    python: Path
    gpus: bool = False
    libraries: tuple[str, ...] = LIBRARIES
    begun: Begun | None = None
    _process: subprocess.Popen[bytes] | None = None
    _socket: socket.socket | None = None
    _ids: count[int] = field(default_factory=lambda: count(1))
    _births: dict[int, _Birth] = field(default_factory=dict)
    _alive: dict[int, WorkerProcess] = field(default_factory=dict)
    _modules: set[str] = field(default_factory=set)
    _preloading: asyncio.Future[Preloaded] | None = None

    async def spawn(self, room: Room | None = None) -> WorkerProcess:
        """A new worker, waiting for its first frame; what it is confined to, if anything. Raises
        `ReplicaStartFailed`."""
        try:
            with ExitStack() as ours, ExitStack() as theirs:
                worker = await self._spawn(ours, theirs, room)
                ours.pop_all()
                return worker
        except (OSError, TimeoutError) as error:
            raise _not_started(str(error) or "the fork server does not answer") from error

    async def _spawn(self, ours: ExitStack, theirs: ExitStack, room: Room | None) -> WorkerProcess:
        """`ours` is closed when this fails, `theirs` in any case: the worker has copies."""
        control = self._ensure_started()
        near, far = socket.socketpair()
        ours.enter_context(near)
        theirs.enter_context(far)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        ours.callback(os.close, read_end)
        theirs.callback(os.close, write_end)
        os.set_blocking(read_end, False)
        near.setblocking(False)
        descriptors, owner = [far.fileno(), write_end], None
        if self.gpus:
            owner, owner_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.enter_context(owner)
            theirs.enter_context(owner_far)
            descriptors.append(owner_far.fileno())
        if room is not None:
            descriptors.append(room.rules)
        birth = _Birth(near, read_end, owner, asyncio.get_running_loop().create_future())
        number = next(self._ids)
        self._births[number] = birth
        try:
            spawn = Spawn(number, None if room is None else str(room.home))
            message = json.dumps(spawn.to_document()).encode()
            await _send(control, message, descriptors)
            async with asyncio.timeout(SPAWN_TIMEOUT_S):
                return await birth.born
        finally:
            del self._births[number]

    async def preload(self, modules: list[str]) -> bool:
        """Has the fork server import what is safe to import; True when it imported anything."""
        wanted = sorted(set(modules) - self._modules)
        if not wanted:
            return False
        self._modules.update(wanted)
        return await self._preload(wanted)

    async def _preload(self, modules: list[str]) -> bool:
        control = self._ensure_started()
        while self._preloading is not None:
            await asyncio.wait({self._preloading})
        self._preloading = asyncio.get_running_loop().create_future()
        try:
            await _send(control, json.dumps(Preload(modules).to_document()).encode())
            async with asyncio.timeout(PRELOAD_TIMEOUT_S):
                answer = await self._preloading
            return bool(answer.modules)
        except (OSError, TimeoutError, ReplicaStartFailed):
            # Preloading only saves time: without it a replica imports for itself.
            return False
        finally:
            self._preloading = None

    async def close(self) -> None:
        """Ends the fork server and with it every worker and whatever these have started."""
        process = self._process
        if process is None or self._socket is None:
            return
        # It sees that its socket has closed and kills every worker's process group.
        self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, CLOSE_TIMEOUT_S)
        self._lost()

    def _ensure_started(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        begun = self.begun or begin(self.python, self.libraries, gpus=self.gpus)
        self._process, self._socket, self.begun = begun.process, begun.socket, None
        asyncio.get_running_loop().add_reader(self._socket, self._receive)
        return self._socket

    def _receive(self) -> None:
        assert self._socket is not None
        handlers: dict[str, Callable[[dict[str, object]], None]] = {
            "spawned": self._on_spawned,
            "spawn_failed": self._on_spawn_failed,
            "exited": self._on_exited,
            "preloaded": self._on_preloaded,
        }
        while True:
            try:
                data = self._socket.recv(_MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self._lost()
                return
            document = json.loads(data)
            handlers[document["op"]](document)

    def _on_spawned(self, document: dict[str, object]) -> None:
        spawned = Spawned.from_document(document)
        birth = self._births.get(spawned.id)
        if birth is None or birth.born.done():
            return
        exited = asyncio.get_running_loop().create_future()
        worker = WorkerProcess(spawned.pid, birth.socket, birth.output, birth.owner, exited)
        self._alive[spawned.pid] = worker
        birth.born.set_result(worker)

    def _on_spawn_failed(self, document: dict[str, object]) -> None:
        failed = SpawnFailed.from_document(document)
        birth = self._births.get(failed.id)
        if birth is not None and not birth.born.done():
            birth.born.set_exception(_not_started(failed.reason))

    def _on_exited(self, document: dict[str, object]) -> None:
        exited = Exited.from_document(document)
        worker = self._alive.pop(exited.pid, None)
        if worker is not None:
            worker.exited.set_result(exited.status)

    def _on_preloaded(self, document: dict[str, object]) -> None:
        if self._preloading is not None and not self._preloading.done():
            self._preloading.set_result(Preloaded.from_document(document))

    def _lost(self) -> None:
        """The fork server is gone; its workers die with it (PR_SET_PDEATHSIG)."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None
        for birth in self._births.values():
            if not birth.born.done():
                birth.born.set_exception(_not_started("the fork server ended"))
        for worker in self._alive.values():
            worker.exited.set_result(-signal.SIGKILL)
        self._alive.clear()
        if self._preloading is not None and not self._preloading.done():
            self._preloading.set_exception(_not_started("the fork server ended"))
        self._modules.clear()


async def _send(control: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    ancillary = []
    if descriptors:
        packed = array.array("i", descriptors)
        ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, packed.tobytes()))
    deadline = asyncio.get_running_loop().time() + SPAWN_TIMEOUT_S
    while True:
        try:
            control.sendmsg([data], ancillary)
            return
        except BlockingIOError:
            # The fork server is still importing and its queue is full of earlier requests.
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError from None
            await asyncio.sleep(0.01)


def _not_started(reason: str) -> ReplicaStartFailed:
    return ReplicaStartFailed(
        f"A worker could not be started: {reason}.", reason=reason, retry_after_s=1
    )
