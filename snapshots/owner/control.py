"""The node's end: starts a memory owner and tells it what to hold."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from dsfn.functions.errors import BadMessage, from_document
from dsfn.snapshots.format import CPU, SlabEntry
from dsfn.snapshots.owner.account import Account, CodingAccount, SlabAccount
from dsfn.snapshots.owner.errors import owner_lost, why_lost
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.messages import (
    Connect,
    Done,
    Evict,
    Failed,
    Freeze,
    Inspect,
    Load,
    Message,
    Query,
    Slabs,
    Start,
    TakeOver,
    Thaw,
    Trim,
    close_all,
    receive,
    send,
)
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.secrets import without_secrets

_ANSWER_S = 10.0
_START_S = 120.0
_FREEZE_S = 30.0
_SLOWEST_LOAD_BYTES_PER_S = 50_000_000


class OwnerControl:
    """A running owner. `start` makes one; `stop` ends it, and all its memory with it."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.lost = asyncio.get_running_loop().create_future()
        self.facts: dict[str, Any] = {}
        asyncio.get_running_loop().add_reader(connection, self._receive)

    @classmethod
    async def start(cls, request: Start, arena: HostFile) -> OwnerControl:
        """Starts an owner of the memory `arena`, which may have been another's before; `facts` is
        then what it says of itself (see `Start`).

        `request.id` does not matter. Raises `MemoryFull`, `DeviceFault`, `UsageError`,
        `OwnerLost`.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "dsfn.snapshots.owner", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=without_secrets(os.environ),
            )
        ours.setblocking(False)
        control = cls(process, ours)
        try:
            control.facts = await control._ask(request, _START_S, [arena.fd])
        except BaseException:  # it goes on; the process must not stay behind
            await control.stop()
            raise
        return control

    @property
    def pid(self) -> int:
        """The owner's process."""
        return self._process.pid

    async def take_over(self, tenant: str, is_sound: bool) -> dict[str, int]:
        """Finds what the owner before has left in the arena, for a new owner: bytes by the digest
        of each slab. If it is not `is_sound` there is nothing. Raises `OwnerLost`."""
        found = await self._ask(TakeOver(0, tenant, is_sound))
        return {str(digest): int(size) for digest, size in found["slabs"].items()}

    async def load(self, tenant: str, directory: Path) -> None:
        """Brings the GPUs' slabs of the snapshot in `directory` into the arena, as far as they
        are not there.

        Raises `CorruptSnapshot`, `MemoryFull`, `SnapshotError` (unreadable), `OwnerLost`.
        """
        _, manifest = read_manifest(directory, through_links=True)
        for slab in manifest.slabs:
            if slab.device != CPU:
                await self.load_slab(tenant, directory, slab)

    async def load_slab(self, tenant: str, directory: Path, slab: SlabEntry) -> None:
        """Brings one of them there. Raises as `load`."""
        if not slab.data_bytes:
            return
        path = str((directory / slab.file).resolve())
        patience_s = _START_S + slab.size_bytes / _SLOWEST_LOAD_BYTES_PER_S
        request = Load(0, tenant, slab.digest, path, slab.data_offset, slab.size_bytes)
        await self._ask(request, patience_s)

    async def evict(self, tenant: str, digest: str) -> None:
        """Drops a slab (by its own digest) from the arena. Raises `NotFound`, `Conflict`."""
        await self._ask(Evict(0, tenant, digest))

    async def connect(self, tenant: str, devices: Sequence[int] = (0,)) -> socket.socket:
        """A worker's end of a new connection, to be passed to it and then closed here."""
        far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with near:
            try:
                await self.attach(near, tenant, devices)
            except BaseException:  # it goes on; the socket must not stay behind
                far.close()
                raise
        return far

    async def attach(self, near: socket.socket, tenant: str, devices: Sequence[int] = (0,)) -> None:
        """Has the owner serve the worker at the other end of `near`, which stays open here.

        A worker can have had its end since before anybody knew whose it would be.
        """
        await self._ask(Connect(0, tenant, list(devices)), descriptors=[near.fileno()])

    async def trim(self) -> None:
        """Has all pooled GPU memory given back."""
        await self._ask(Trim(0))

    async def freeze(self, pid: int, device: int) -> None:
        """Takes all that a process has on a GPU. Raises `DeviceFault`, `OwnerLost`."""
        await self._ask(Freeze(0, pid, device), _FREEZE_S)

    async def thaw(self, pid: int, device: int) -> None:
        """Gives it back. Raises `DeviceFault`, `OwnerLost`."""
        await self._ask(Thaw(0, pid, device), _FREEZE_S)

    async def account(self, patience_s: float = _ANSWER_S) -> Account:
        """Where every byte is. Raises `OwnerLost`."""
        return Account.from_document(await self._ask(Query(0), patience_s))

    async def coding(self, tenant: str, digest: str) -> CodingAccount:
        """What came of coding a slab of the arena. Raises `NotFound`."""
        return CodingAccount(**await self._ask(Inspect(0, tenant, digest)))

    async def slabs(self) -> list[SlabAccount]:
        """What the arena has to evict, the least recently used first, as many as fit."""
        found = await self._ask(Slabs(0))
        return [SlabAccount(**document) for document in found["slabs"]]

    def kill(self, reason: str) -> None:
        """Ends an owner that does not listen."""
        self._end(reason)
        self._process.kill()

    @property
    def was_killed(self) -> bool:
        """Whether it ended because somebody wanted so, and not of a fault of its own."""
        return self._process.returncode in (-signal.SIGKILL, -signal.SIGTERM)

    async def stop(self) -> None:
        """Ends the owner and waits for its end."""
        self._end("it was stopped")
        try:
            await asyncio.to_thread(self._process.wait, _ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # its driver may hold it for longer
                await asyncio.to_thread(self._process.wait, _ANSWER_S)

    async def _ask(
        self, request: Message, patience_s: float = _ANSWER_S, descriptors: Sequence[int] = ()
    ) -> dict[str, Any]:
        if self.lost.done():
            raise owner_lost(self.lost.result())
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            send(self._connection, replace(request, id=number), descriptors)
            async with asyncio.timeout(patience_s):
                result: dict[str, Any] = await answer
            return result
        except TimeoutError as error:
            raise owner_lost(f"no answer within {patience_s:g} s") from error
        except OSError as error:
            reason = why_lost(error)
            answer.cancel()  # this caller hears of it now, and no one else waits for it
            self._end(reason)
            raise owner_lost(reason) from error
        finally:
            self._waiting.pop(number, None)

    def _receive(self) -> None:
        try:
            message, descriptors = receive(self._connection)
        except (OSError, BadMessage) as error:
            self._end(why_lost(error))
            return
        close_all(descriptors)
        if message is None:
            self._end("it has ended")
            return
        answer = self._waiting.get(message.id)
        if answer is None or answer.done():
            return  # nobody waits any more
        if isinstance(message, Done):
            answer.set_result(message.result)
        elif isinstance(message, Failed):
            answer.set_exception(from_document(message.error))

    def _end(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        asyncio.get_running_loop().remove_reader(self._connection)
        self._connection.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(owner_lost(reason))
