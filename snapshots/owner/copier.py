"""Copies slabs to one device, one after the other, in a thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from time import perf_counter_ns

from dsfn.functions.errors import DsfnError
from dsfn.snapshots.owner.device import Device, Granule

_PIECES_AHEAD = 8  # enough for a bus that never waits, few enough to stop soon


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """`size_bytes` from the address `source` into granules, in order.

    `done` gets the microseconds that it took or why it failed, in the copier's thread.
    """

    source: int
    size_bytes: int
    granules: Sequence[Granule]
    done: Callable[[int, DsfnError | None], None]
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Has it end soon; `done` is called all the same."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def pieces(self, piece_bytes: int) -> Iterator[tuple[int, int, int]]:
        """Target address, source address and size of each piece."""
        source, left = self.source, self.size_bytes
        for granule in self.granules:
            used = min(granule.size_bytes, left)
            for start in range(0, used, piece_bytes):
                size = min(piece_bytes, used - start)
                yield granule.address + start, source + start, size
            source, left = source + used, left - used


class Copier:
    """One device's copies."""

    def __init__(self, device: Device, piece_bytes: int) -> None:
        self._device = device
        self._piece_bytes = piece_bytes
        self._copies: SimpleQueue[Copy] = SimpleQueue()
        threading.Thread(target=self._run, name="dsfn-copier", daemon=True).start()

    def submit(self, copy: Copy) -> None:
        """Queues a copy."""
        self._copies.put(copy)

    def _run(self) -> None:
        self._device.use()
        while True:
            copy = self._copies.get()
            began_ns = perf_counter_ns()
            fault: DsfnError | None = None
            try:
                self._copy(copy)
            except DsfnError as error:
                fault = error
            copy.done((perf_counter_ns() - began_ns) // 1000, fault)

    def _copy(self, copy: Copy) -> None:
        running: deque[object] = deque()
        for target, source, size in copy.pieces(self._piece_bytes):
            if copy.cancelled:
                break
            if len(running) == _PIECES_AHEAD:
                self._device.wait(running.popleft())
            running.append(self._device.copy(target, source, size))
        while running:
            self._device.wait(running.popleft())
