"""A device's link to the host, and the thread that keeps it busy."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from itertools import cycle

from dsfn.functions.errors import DsfnError
from dsfn.snapshots.owner.account import LinkAccount
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


class Link:
    """Carries what the copier has for it: for the device, whose `number` it has, and by way of
    `staging` for its peers."""

    def __init__(
        self, number: int, device: Device, copier: Copier, staging: Staging | None
    ) -> None:
        self._number = number
        self._device = device
        self._copier = copier
        self._peers = staging.peers if staging is not None else ()
        # Pieces end in the order in which they began, so the first place is free again first.
        self._places = cycle(staging.places if staging is not None else ())
        self._flights: deque[_Flight] = deque()
        self.carried_bytes = dict.fromkeys(Route, 0)
        threading.Thread(target=self._run, name=f"dsfn-link-{number}", daemon=True).start()

    def account(self) -> LinkAccount:
        """What it has carried."""
        carried = self.carried_bytes
        return LinkAccount(carried[Route.OWN], carried[Route.RELAY], carried[Route.KEPT])

    def _run(self) -> None:
        self._device.use()
        while True:
            self._begin()
            self._end_oldest()

    def _begin(self) -> None:
        """Puts on its way what there is, at least one piece."""
        while len(self._flights) < _PIECES_AHEAD:
            task = self._copier.take(self._number, self._peers, len(self._flights))
            if task is None:
                return
            try:
                self._flights.append(_Flight(task, self._send(task)))
            except DsfnError as fault:
                self._failed(task, fault)

    def _send(self, task: Task) -> object:
        target, size_bytes = task.piece.address(task.copy.granules), task.piece.size_bytes
        match task.route:
            case Route.OWN:
                return self._device.upload(target, task.source, size_bytes)
            case Route.RELAY:
                return self._device.relay(target, next(self._places), task.source, size_bytes)
            case Route.KEPT:
                return self._device.transfer(target, task.source, size_bytes)

    def _end_oldest(self) -> None:
        flight = self._flights.popleft()
        # Nothing is behind it: a copy may end with it, which should not wait for this thread
        # to be woken.
        try:
            self._device.wait(flight.event, urgent=not self._flights)
        except DsfnError as fault:
            self._failed(flight.task, fault)
        else:
            self.carried_bytes[flight.task.route] += flight.task.piece.size_bytes
            self._copier.arrived(flight.task)

    def _failed(self, task: Task, fault: DsfnError) -> None:
        if task.route is Route.RELAY:
            self._peers = ()  # whatever ails it: what it carries for others they can do without
        self._copier.failed(task, fault)
