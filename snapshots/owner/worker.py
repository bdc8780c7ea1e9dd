"""One worker of an owner: its socket, and what it has mapped."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from dsfn.functions.errors import BadMessage, DsfnError, MemoryFull
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.arena import Arena, ArenaSlab, Form
from dsfn.snapshots.owner.checker import Inspection
from dsfn.snapshots.owner.copier import Copier, Copy
from dsfn.snapshots.owner.device import Granule
from dsfn.snapshots.owner.messages import (
    MAX_DESCRIPTORS,
    Check,
    Checked,
    Failed,
    Granules,
    Map,
    Message,
    Release,
    Released,
    close_all,
    receive,
    send,
)
from dsfn.snapshots.owner.neighbours import Kept, NeighbourTier
from dsfn.snapshots.owner.pool import GranulePool
from dsfn.snapshots.owner.progress import ProgressPage


class Host(Protocol):
    """What a worker needs of the owner."""

    @property
    def arena(self) -> Arena:
        """The arena."""

    def post(self, action: Callable[[], None]) -> None:
        """Has the loop run `action`."""

    def new_page(self) -> ProgressPage:
        """A page for one copy. Raises `OSError`."""

    @property
    def neighbours(self) -> NeighbourTier:
        """Slabs on devices."""

    def inspect(
        self,
        slab: ArenaSlab,
        device: int,
        granules: list[Granule],
        done: Callable[[bool, DsfnError | None], None],
    ) -> Inspection:
        """Begins an inspection; the loop runs `done`."""

    def forget(self, worker: Worker) -> None:
        """Listens to the worker no more."""


@dataclass(slots=True)
class _Mapping:
    device: int
    slab: ArenaSlab
    granules: list[Granule]
    page: ProgressPage
    copy: Copy | None = None
    inspection: Inspection | None = None
    releasing: bool = False

    @property
    def is_busy(self) -> bool:
        """Whether the owner reads or writes its memory."""
        return self.copy is not None or self.inspection is not None


class Worker:
    """Serves one worker, whose code may be anybody's: it can harm its own memory alone."""

    def __init__(
        self,
        host: Host,
        connection: socket.socket,
        tenant: str,
        pools: Mapping[int, GranulePool],
        copier: Copier,
    ) -> None:
        self.connection = connection
        self._host = host
        self._tenant = tenant
        self._pools = pools
        self._copier = copier
        self._mappings: dict[int, _Mapping] = {}
        self._lost = False

    @property
    def mappings(self) -> int:
        """How many it has."""
        return len(self._mappings)

    def receive(self) -> None:
        """Handles one packet, or the end: memory of a worker that is lost comes back."""
        try:
            message, descriptors = receive(self.connection)
            close_all(descriptors)  # a worker has none to send
            self._handle(message)
        except (OSError, BadMessage):
            self._lose()

    def _handle(self, message: Message | None) -> None:
        match message:
            case Map():
                self._map(message)
            case Check():
                self._check(message)
            case Release():
                self._release(message)
            case None:
                self._lose()
            case _:
                raise BadMessage(f"A worker does not send {type(message).__name__}.")

    def _map(self, message: Map) -> None:
        if message.id in self._mappings:
            raise BadMessage(f"There is a mapping {message.id} already.")
        if message.device not in self._pools:
            raise BadMessage(f"The device {message.device} is not this worker's.")
        page, again = self._host.new_page(), partial(self._map_again, message)
        try:
            slab = self._host.arena.find((self._tenant, message.digest))
            granules = self._pools[message.device].take(self._tenant, slab.data_bytes)
        except DsfnError as error:
            page.close()
            full = isinstance(error, MemoryFull)
            if not full or not self._host.neighbours.wait_for_room(message.device, again):
                send(self.connection, Failed(message.id, error.to_document()))
            return
        slab.use()
        mapping = _Mapping(message.device, slab, granules, page)
        self._mappings[message.id] = mapping
        self._bring(message.id, mapping)
        self._send_granules(message.id, mapping)

    def _map_again(self, message: Map) -> None:
        """What was in the way has gone."""
        try:
            if not self._lost:
                self._map(message)
        except (OSError, BadMessage):
            self._lose()

    def _bring(self, number: int, mapping: _Mapping) -> None:
        """Begins the copy, which runs while the worker maps the granules."""
        slab, kept = mapping.slab, self._host.neighbours.find(mapping.slab, mapping.device)
        form = self._host.arena.read(slab)
        mapping.copy = Copy(
            device=mapping.device,
            source=form.source,
            granules=mapping.granules,
            pieces=slab.pieces(mapping.granules, self._copier.piece_bytes),
            page=mapping.page,
            done=partial(self._post_copied, number, form, kept),
            kept=None if kept is None else kept.granules,
        )
        slab.mappings += 1
        if kept is not None:
            kept.readers += 1
        self._copier.submit(mapping.copy)

    def _send_granules(self, number: int, mapping: _Mapping) -> None:
        granules, most = mapping.granules, MAX_DESCRIPTORS - 1
        for start in range(0, len(granules), most):
            part = granules[start : start + most]
            sizes = [granule.size_bytes for granule in part]
            descriptors = [granule.fd for granule in part]
            if not start:
                descriptors.append(mapping.page.descriptor)
            more = start + most < len(granules)
            send(self.connection, Granules(number, sizes, more, not start), descriptors)

    def _post_copied(
        self,
        number: int,
        form: Form,
        kept: Kept | None,
        copy_us: int,
        fault: DsfnError | None,
    ) -> None:
        """Runs in any thread."""
        self._host.post(partial(self._end_copy, form, kept))
        self._host.post(partial(self._copied, number, fault))

    def _end_copy(self, form: Form, kept: Kept | None) -> None:
        self._host.arena.end_read(form)
        if kept is not None:
            self._host.neighbours.end_read(kept)

    def _copied(self, number: int, fault: DsfnError | None) -> None:
        """The worker sees on the page that all is there; what went wrong it has to be told."""
        self._copier.let_end()  # the page may be closed now
        self._mappings[number].copy = None
        self._answer(number, None if fault is None else Failed(number, fault.to_document()))

    def _check(self, message: Check) -> None:
        mapping = self._mappings.get(message.id)
        if mapping is None or mapping.releasing or mapping.is_busy:
            raise BadMessage(f"There is nothing to check in mapping {message.id}.")
        mapping.inspection = self._host.inspect(
            mapping.slab, mapping.device, mapping.granules, partial(self._checked, message.id)
        )

    def _checked(self, number: int, is_intact: bool, fault: DsfnError | None) -> None:
        mapping = self._mappings[number]
        mapping.inspection = None
        failed = None if fault is None else Failed(number, fault.to_document())
        self._answer(number, failed or Checked(number, is_intact))

    def _answer(self, number: int, message: Message | None) -> None:
        """What a mapping was busy with has ended; ends the mapping too, if that was asked."""
        if self._lost:
            self._discard(number)
        elif self._mappings[number].releasing:
            self._give(number)
        elif message is not None:
            self._send(message)

    def _release(self, message: Release) -> None:
        mapping = self._mappings.get(message.id)
        if mapping is None or mapping.releasing:
            raise BadMessage(f"There is no mapping {message.id}.")
        mapping.releasing = True
        if mapping.is_busy:
            self._call_off(mapping)
        else:
            self._give(message.id)

    def _call_off(self, mapping: _Mapping) -> None:
        if mapping.copy is not None:
            self._copier.cancel(mapping.copy)
        if mapping.inspection is not None:
            mapping.inspection.cancelled.set()

    def _give(self, number: int) -> None:
        mapping = self._end_mapping(number)
        self._pools[mapping.device].give(self._tenant, mapping.granules)
        self._host.neighbours.parked(mapping.slab, mapping.device)
        self._send(Released(number))

    def _discard(self, number: int) -> None:
        mapping = self._end_mapping(number)
        self._pools[mapping.device].discard(mapping.granules)
        self._host.neighbours.parked(mapping.slab, mapping.device)

    def _end_mapping(self, number: int) -> _Mapping:
        mapping = self._mappings.pop(number)
        mapping.page.close()
        mapping.slab.mappings -= 1
        return mapping

    def _send(self, message: Message) -> None:
        try:
            send(self.connection, message)
        except OSError:
            self._lose()

    def _lose(self) -> None:
        if self._lost:
            return
        self._lost = True
        self._host.forget(self)
        self.connection.close()
        for number, mapping in list(self._mappings.items()):
            if mapping.is_busy:
                self._call_off(mapping)
            else:
                self._discard(number)
