"""The agent of the pod's node: keeps usage on its disk, and has snapshots there."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from threading import local

from dsfn.billing.posting_document import Measured, posting_document
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, DsfnError, StoreUnavailable, from_document
from dsfn.functions.values import dataclass
from dsfn.knative.agent.address import Address
from dsfn.knative.agent.wire import BadPacket, Message, packed
from dsfn.knative.pod.control import RETRY_AFTER_S
from dsfn.knative.pod.held import HeldFiles
from dsfn.knative.pod.revision import PulledSnapshots
from dsfn.snapshots.store import FileStore

TIMEOUT_S = 5.0
# An agent of the same node takes a connection at once, or a second later when very many come. One
# that waits longer waits for an address at which there is no agent any more.
CONNECT_TIMEOUT_S = 1.5
# Calls that begin at once share commits of the agent's; beside them go rows, and questions.
THREADS = 8
# The agent takes a pod that it has not heard of for 10 s for one that has ended.
PRESENT_EVERY_S = 2.0


@dataclass(eq=False)
class Agent:
    """Speaks to the agent over connections that are kept, one for each thread.

    `pod`: who the pod is, another each time that one starts. `key`: that of the control service.
    `held`: what it has given to workers.
    """

    address: Address
    pod: str
    key: str = field(repr=False)
    held: HeldFiles = field(default_factory=HeldFiles)
    _kept: local = field(default_factory=local)
    _open: set[socket.socket] = field(default_factory=set)
    _threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "agent")

    async def ask(self, message: Message, timeout_s: float = TIMEOUT_S) -> Message:
        """One request, which may be made twice. Raises what the agent does, and
        `StoreUnavailable` where there is none now."""
        reply, descriptors = await self.ask_for_files(message, timeout_s)
        for each in descriptors:
            os.close(each)
        return reply

    async def ask_for_files(self, message: Message, timeout_s: float) -> tuple[Message, list[int]]:
        """As `ask`, with the descriptors that came along: they are the caller's."""
        loop = asyncio.get_running_loop()
        reply, descriptors = await loop.run_in_executor(
            self._threads, self._ask, message, timeout_s
        )
        if "error" in reply:
            raise from_document(reply)
        return reply, descriptors

    def close(self) -> None:
        """Asks nothing more; what is under way fails."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._threads.shutdown(cancel_futures=True)
        for connection in self._open:
            connection.close()
        self.held.close()

    def _ask(self, message: Message, timeout_s: float) -> tuple[Message, list[int]]:
        kept: socket.socket | None = getattr(self._kept, "connection", None)
        try:
            if kept is not None:
                with suppress(ConnectionError):  # it was another run of the agent's
                    return self._exchange(kept, message, timeout_s)
            return self._exchange(self._connected(), message, timeout_s)
        except (OSError, BadPacket) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise StoreUnavailable(
                f"The agent of this node cannot be used: {reason or error}.",
                reason=reason or str(error),
                retry_after_s=RETRY_AFTER_S,
            ) from error

    def _exchange(
        self, connection: socket.socket, message: Message, timeout_s: float
    ) -> tuple[Message, list[int]]:
        self._kept.connection = None
        try:
            connection.settimeout(timeout_s)
            found = self.address.exchange(connection, message)
        except BaseException:
            self._open.discard(connection)
            connection.close()
            raise
        self._kept.connection = connection
        return found

    def _connected(self) -> socket.socket:
        connection = self.address.connect(CONNECT_TIMEOUT_S)
        try:
            connection.settimeout(TIMEOUT_S)
            hello = {"do": "hello", "pod": self.pod, "key": self.key}
            reply, _ = self.address.exchange(connection, hello)
            if "error" in reply:
                raise BadPacket(str(reply.get("message")))
        except BaseException:
            connection.close()
            raise
        self._open.add(connection)
        return connection


@dataclass(frozen=True, slots=True)
class AgentBooks:
    """`Books` and `Reservations` on the node's disk: what is there comes to the ledger, whatever
    becomes of us."""

    agent: Agent

    async def reserve(self, row: Usage) -> None:
        """See `Reservations`."""
        await self.agent.ask({"do": "reserve", "row": posting_document(row)})

    async def release(self, call: str) -> None:
        """See `Reservations`."""
        await self.agent.ask({"do": "release", "call": call})

    async def post(self, rows: Sequence[Measured]) -> dict[int, Conflict]:
        """See `Books`. What the ledger refuses later the agent puts right by itself."""
        refused, before = {}, 0
        for part in packed([posting_document(row) for row in rows]):
            reply = await self.agent.ask({"do": "post", "rows": part})
            for number in reply["refused"]:
                refused[before + number] = Conflict("Another row of this is on the books.")
            before += len(part)
        return refused

    async def has(self, invocation_id: str) -> bool:
        """See `Books`."""
        reply = await self.agent.ask({"do": "has", "call": invocation_id})
        return bool(reply["is_there"])

    async def stay(self) -> None:
        """Has the agent know that the pod lives, until it is cancelled."""
        while True:
            with suppress(DsfnError):
                await self.agent.ask({"do": "hello"})
            await asyncio.sleep(PRESENT_EVERY_S)


@dataclass(frozen=True, slots=True)
class AgentSnapshots:
    """`SnapshotSource`: a snapshot of the pod's is a directory of links to files that the agent
    has opened, so that all pods of a node read the same pages. What the agent cannot give comes
    from the store."""

    agent: Agent
    files: FileStore
    pulled: PulledSnapshots
    timeout_s: float

    async def ensure(self, digest: str) -> Path | None:
        """See `SnapshotSource`."""
        if self.files.has(digest) or await self._get(digest, again=False):
            return self.files.path(digest)
        return await self.pulled.ensure(digest)

    async def refetch(self, digest: str) -> bool:
        """Brings another copy in the place of one that is damaged. Raises as `Copies.pull`."""
        return await self._get(digest, again=True) or await self.pulled.refetch(digest)

    async def _get(self, digest: str, *, again: bool) -> bool:
        try:
            message = {"do": "snapshot", "digest": digest, "again": again}
            reply, descriptors = await self.agent.ask_for_files(message, self.timeout_s)
            await asyncio.to_thread(self._keep, digest, reply["files"], descriptors)
        except (DsfnError, OSError):
            return False
        return True

    def _keep(self, digest: str, names: Sequence[str], descriptors: Sequence[int]) -> None:
        """Has the snapshot be here, and gives the descriptors back."""
        try:
            self._link(digest, names, descriptors)
        finally:
            for each in descriptors:
                os.close(each)

    def _link(self, digest: str, names: Sequence[str], descriptors: Sequence[int]) -> None:
        directory = self.files.stage()
        try:
            place = self.agent.held.hold(descriptors)
            for name, descriptor in zip(names, descriptors, strict=True):
                (directory / Path(name).name).symlink_to(place / str(descriptor))
            final = directory.with_name(digest)
            if final.exists():
                shutil.rmtree(final)
            directory.rename(final)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
