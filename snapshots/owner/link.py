"""A device's link to the host, and the thread that keeps it busy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import cycle

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.account import LinkAccount
from dsfn.snapshots.owner.codec import Codec, Slot
from dsfn.snapshots.owner.copier import Copier, Route, Task
from dsfn.snapshots.owner.device import Device
from dsfn.snapshots.owner.staging import PLACES, Staging

# Enough for a link that never waits, few enough to stop soon, and to leave the last pieces of
# a copy to the link that is free first.
_PIECES_AHEAD = PLACES


@dataclass(frozen=True, slots=True)
class _Flight:
    task: Task
    event: object
    slot: Slot | None


class Link:
    """Carries what the copier has for it: for the device, whose `number` it has, and by way of
    `staging` for its peers. What is coded goes to a slot of the codec of the device that it is
    for, and is decoded from there; `codecs` has as many as there are devices, or none."""

    def __init__(
        self,
        number: int,
        device: Device,
        copier: Copier,
        staging: Staging | None,
        codecs: Sequence[Codec] = (),
    ) -> None:
        self._number = number
        self._device = device
        self._copier = copier
        self._codecs = codecs
        self._peers = staging.peers if staging is not None else ()
        # Pieces end in the order in which they began, so the first place is free again first.
        self._places = cycle(staging.places if staging is not None else ())
        self._flights: deque[_Flight] = deque()
        self._held: Task | None = None  # for want of a slot
        self.carried_bytes = dict.fromkeys(Route, 0)
        threading.Thread(target=self._run, name=f"dsfn-link-{number}", daemon=True).start()

    def account(self) -> LinkAccount:
        """What it has carried."""
        carried = self.carried_bytes
        return LinkAccount(
            len(self._peers), carried[Route.OWN], carried[Route.RELAY], carried[Route.KEPT]
        )

    def _run(self) -> None:
        self._device.use()
        while True:
            self._begin()
            self._end_oldest()

    def _begin(self) -> None:
        """Puts on its way what there is, at least one piece."""
        while len(self._flights) < _PIECES_AHEAD:
            under_way = len(self._flights)
            task = self._held or self._copier.take(self._number, self._peers, under_way)
            if task is None:
                return
            self._held, slot = None, None
            if task.coded and (slot := self._codec(task).take(wait=not under_way)) is None:
                self._held = task
                return
            try:
                self._flights.append(_Flight(task, self._send(task, slot), slot))
            except DsfnError as fault:
                self._failed(task, fault)

    def _send(self, task: Task, slot: Slot | None) -> object:
        target = task.piece.address(task.copy.granules)
        if slot is None:
            return self._carry(task, target)
        try:
            event = self._carry(task, slot.address)
            self._decode(task, slot, event, target)
        except DsfnError:
            self._codec(task).finish(slot)
            raise
        return event

    def _carry(self, task: Task, target: int) -> object:
        match task.route:
            case Route.OWN:
                return self._device.upload(target, task.source, task.carried_bytes)
            case Route.RELAY:
                place = next(self._places)
                return self._device.relay(target, place, task.source, task.carried_bytes)
            case Route.KEPT:
                return self._device.transfer(target, task.source, task.carried_bytes)

    def _decode(self, task: Task, slot: Slot, arrived: object, target: int) -> None:
        assert task.piece.chunks is not None
        try:
            self._codec(task).decode(
                slot, arrived, task.piece.chunks, target, task.piece.size_bytes
            )
        except DsfnError:
            self._device.use()
            self._device.wait(arrived)  # nobody must get the slot before
            raise
        self._device.use()  # a peer's codec has made the peer this thread's

    def _end_oldest(self) -> None:
        flight = self._flights.popleft()
        # Nothing is behind it: a copy may end with it, which should not wait for this thread
        # to be woken.
        try:
            self._wait(flight, urgent=not self._flights)
        except DsfnError as fault:
            self._failed(flight.task, fault)
        else:
            self.carried_bytes[flight.task.route] += flight.task.carried_bytes
            self._copier.arrived(flight.task)

    def _wait(self, flight: _Flight, urgent: bool) -> None:
        try:
            if flight.slot is not None:
                # What is decoded has been carried: the thread is woken once for both.
                self._codec(flight.task).finish(flight.slot, urgent)
        finally:
            self._device.wait(flight.event, urgent)

    def _codec(self, task: Task) -> Codec:
        return self._codecs[task.copy.device]

    def _failed(self, task: Task, fault: DsfnError) -> None:
        if task.route is Route.RELAY:
            self._peers = ()  # whatever ails it: what it carries for others they can do without
        self._copier.failed(task, fault)
