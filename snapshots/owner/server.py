"""The owner's loop: sockets in, answers out. It alone touches arena and pools."""

from __future__ import annotations

import json
import os
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NoReturn

from dsfn.functions.errors import BadMessage, DsfnError, MemoryFull, SnapshotError
from dsfn.snapshots.owner.account import Account
from dsfn.snapshots.owner.arena import Arena, ArenaSlab, Key
from dsfn.snapshots.owner.checker import Checker, Inspection
from dsfn.snapshots.owner.coding import Coding
from dsfn.snapshots.owner.device import Granule
from dsfn.snapshots.owner.freezer import Freezer, freezer_for
from dsfn.snapshots.owner.messages import (
    MAX_MESSAGE_BYTES,
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
from dsfn.snapshots.owner.neighbours import NeighbourTier
from dsfn.snapshots.owner.progress import ProgressPage
from dsfn.snapshots.owner.start import Parts, start
from dsfn.snapshots.owner.worker import Worker

_ENVELOPE_BYTES = 256  # of an answer, around what it answers
_MOST_TAKEN_OVER = 700  # as many as one answer can name


class Owner:
    """Serves one node and the workers that it names, until the node goes."""

    def __init__(self, node: socket.socket) -> None:
        self._node = node
        self._selector = selectors.DefaultSelector()
        self._posted: deque[Callable[[], None]] = deque()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._loader = ThreadPoolExecutor(1, "dsfn-loader")
        self._freezing = ThreadPoolExecutor(1, "dsfn-freezer")
        self._checker = Checker()
        self._page: ProgressPage | None = None
        self._loading: dict[Key, list[int]] = {}
        self._workers: set[Worker] = set()
        self._parts: Parts
        self._coding: Coding | None = None
        self.neighbours: NeighbourTier
        self._freezers: tuple[Freezer, ...]

    def serve(self) -> NoReturn:
        """Works until the node's socket ends; so does the process then, all memory with it."""
        if not self._begin():
            os._exit(1)
        self._selector.register(self._bell, selectors.EVENT_READ, self._answer_bell)
        self._selector.register(self._node, selectors.EVENT_READ, self._from_node)
        while True:
            for key, _ in self._selector.select():
                # A worker may act on what threads have done before they could ring.
                self._run_posted()
                key.data()
            self._prepare_page()
            if self._coding is not None:
                self._coding.go_on()  # there may be more room than before

    def post(self, action: Callable[[], None]) -> None:
        """Has the loop run `action`; any thread may call this."""
        self._posted.append(action)
        os.eventfd_write(self._bell, 1)

    def new_page(self) -> ProgressPage:
        """A page for one copy, made before somebody waited for it. Raises `OSError`."""
        page, self._page = self._page, None
        return page or ProgressPage()

    @property
    def arena(self) -> Arena:
        """The arena."""
        return self._parts.arena

    def inspect(
        self,
        slab: ArenaSlab,
        device: int,
        granules: list[Granule],
        done: Callable[[bool, DsfnError | None], None],
    ) -> Inspection:
        """Begins to compare memory of a device with a slab; the loop runs `done`."""

        def post(is_intact: bool, fault: DsfnError | None) -> None:
            self.post(partial(done, is_intact, fault))

        inspection = Inspection(slab, self._parts.devices[device], granules, post)
        self._checker.submit(inspection)
        return inspection

    def forget(self, worker: Worker) -> None:
        """Listens to a worker no more."""
        self._selector.unregister(worker.connection)
        self._workers.discard(worker)

    def _begin(self) -> bool:
        message, descriptors = receive(self._node)
        if not (isinstance(message, Start) and len(descriptors) == 1):
            return False
        try:
            self._parts = start(message, *descriptors)
            self._freezers = tuple(map(freezer_for, message.devices))
            self.neighbours = self._parts.neighbours(self.post)
        except DsfnError as error:
            self._answer(Failed(message.id, error.to_document()))
            return False
        finally:
            close_all(descriptors)
        if self._parts.compression is not None:
            arena, pool = self._parts.arena, self._parts.pools[0]
            self._coding = Coding(arena, pool, self._parts.compression, self.post)
        self._answer(Done(message.id, self._parts.to_document()))
        return True

    def _prepare_page(self) -> None:
        if self._page is None:
            with suppress(OSError):  # whoever needs one finds out
                self._page = ProgressPage()

    def _answer_bell(self) -> None:
        os.eventfd_read(self._bell)
        self._run_posted()

    def _run_posted(self) -> None:
        while self._posted:
            self._posted.popleft()()

    def _from_node(self) -> None:
        try:
            message, descriptors = receive(self._node)
        except (OSError, BadMessage):
            os._exit(1)
        if message is None:
            os._exit(0)
        try:
            self._serve(message, descriptors)
        finally:
            close_all(descriptors)

    def _serve(self, message: Message, descriptors: list[int]) -> None:
        try:
            result = self._handle(message, descriptors)
        except DsfnError as error:
            self._answer(Failed(message.id, error.to_document()))
        else:
            if result is not None:
                self._answer(Done(message.id, result))

    def _handle(self, message: Message, descriptors: list[int]) -> dict[str, object] | None:
        """The answer, or None if it comes later."""
        match message:
            case TakeOver():
                return {"slabs": self._take_over(message)}
            case Load():
                return self._load(message)
            case Evict():
                return self._evict(message)
            case Connect():
                self._connect(message, descriptors)
            case Trim():
                self.neighbours.trim()
                for pool in self._parts.pools:
                    pool.trim()
            case Freeze():
                self._freeze(message, self._freezer(message.device).freeze)
                return None
            case Thaw():
                self._freeze(message, self._freezer(message.device).thaw)
                return None
            case Query():
                return self._account().to_document()
            case Inspect():
                slab = self.arena.find((message.tenant, message.digest))
                return asdict(self.arena.coding(slab))
            case Slabs():
                return {"slabs": list(self._slabs())}
            case _:
                raise BadMessage(f"A node does not send {type(message).__name__}.")
        return {}

    def _take_over(self, message: TakeOver) -> dict[str, int]:
        self.arena.take_over(message.tenant, _MOST_TAKEN_OVER, message.is_sound)
        slabs = self.arena.slabs
        if self._coding is not None:
            for slab in slabs.values():
                self._coding.add(slab)
        return {digest: slab.size_bytes for (_, digest), slab in slabs.items()}

    def _evict(self, message: Evict) -> dict[str, object] | None:
        key, again = (message.tenant, message.digest), partial(self._serve, message, [])
        if self.neighbours.forget(key, then=again):
            return None
        slab = self.arena.evictable(key)
        if self._coding is not None and self._coding.leave(slab, then=again):
            return None
        self.arena.evict(key)
        return {}

    def _load(self, message: Load) -> dict[str, object] | None:
        key = (message.tenant, message.digest)
        if key in self.arena.slabs:
            return {}
        if key in self._loading:
            self._loading[key].append(message.id)
            return None
        if not 0 <= message.data_offset < message.size_bytes:
            raise BadMessage("The slab has no data.")
        try:
            slab = self.arena.reserve(key, message.size_bytes, message.data_offset)
        except MemoryFull:
            # What is in the background gives its room to what somebody waits for.
            again = partial(self._serve, message, [])
            if self._coding is None or not self._coding.give_way(again):
                raise
            return None
        self._loading[key] = [message.id]
        self._loader.submit(self._fill, slab, Path(message.path))
        return None

    def _fill(self, slab: ArenaSlab, path: Path) -> None:
        """Runs in the loader's thread."""
        fault: DsfnError | None = None
        try:
            self.arena.fill(slab, path)
        except DsfnError as error:
            fault = error
        except OSError as error:
            fault = SnapshotError(f"The slab cannot be read: {error.strerror}.")
        self.post(partial(self._filled, slab, fault))

    def _filled(self, slab: ArenaSlab, fault: DsfnError | None) -> None:
        if fault is None:
            self.arena.commit(slab)
            if self._coding is not None:
                self._coding.add(slab)
        else:
            self.arena.drop(slab.form)
        for number in self._loading.pop(slab.key):
            failed = None if fault is None else Failed(number, fault.to_document())
            self._answer(failed or Done(number, {}))

    def _connect(self, message: Connect, descriptors: list[int]) -> None:
        known = range(len(self._parts.pools))
        if len(descriptors) != 1 or not all(index in known for index in message.devices):
            raise BadMessage("A connection needs one socket and devices that there are.")
        connection = socket.socket(fileno=os.dup(descriptors[0]))
        connection.setblocking(False)
        pools = {index: self._parts.pools[index] for index in message.devices}
        worker = Worker(self, connection, message.tenant, pools, self._parts.copier)
        self._workers.add(worker)
        self._selector.register(connection, selectors.EVENT_READ, worker.receive)

    def _freezer(self, device: int) -> Freezer:
        if device >= len(self._freezers):
            raise BadMessage(f"There is no device {device}.")
        return self._freezers[device]

    def _freeze(self, message: Freeze | Thaw, act: Callable[[int], None]) -> None:
        """Takes a part of a second: a thread does it, and the answer comes later."""

        def run() -> None:
            answer: Message = Done(message.id, {})
            try:
                act(message.pid)
            except DsfnError as error:
                answer = Failed(message.id, error.to_document())
            self.post(partial(self._answer, answer))

        self._freezing.submit(run)

    def _account(self) -> Account:
        ranges = self.arena.ranges
        return Account(
            arena_bytes=ranges.total_bytes,
            arena_used_bytes=ranges.used_bytes,
            arena_free_bytes=ranges.free_bytes,
            arena_largest_free_bytes=ranges.largest_free_bytes,
            slabs=len(self.arena.slabs),
            coded_slabs=sum(slab.coded for slab in self.arena.slabs.values()),
            workers=len(self._workers),
            mappings=sum(worker.mappings for worker in self._workers),
            devices=tuple(pool.account() for pool in self._parts.pools),
            links=tuple(link.account() for link in self._parts.links),
        )

    def _slabs(self) -> Iterator[dict[str, object]]:
        left_bytes = MAX_MESSAGE_BYTES - _ENVELOPE_BYTES
        for slab in self.arena.by_last_use():
            document = asdict(slab.account())
            left_bytes -= len(json.dumps(document)) + len(", ")
            if left_bytes < 0:
                return
            yield document

    def _answer(self, message: Message) -> None:
        try:
            send(self._node, message)
        except OSError:
            os._exit(1)
