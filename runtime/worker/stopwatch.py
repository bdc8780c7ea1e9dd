"""How long a call keeps its device busy: by the wall clock, or by the GPU's own events."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import perf_counter_ns
from typing import TYPE_CHECKING, Protocol

from dsfn.functions.values import dataclass

if TYPE_CHECKING:
    import torch


class Waits(Protocol):
    """What a call had to wait for, beside its own work."""

    @property
    def waited_us(self) -> int:
        """How long, so far."""


@dataclass(frozen=True, slots=True)
class NoWaits:
    """Nothing."""

    waited_us: int = 0


class Stopwatch:
    """Adds up the time that a call keeps this process busy, in microseconds; `waits` is not
    part of it."""

    __slots__ = ("_began_ns", "_total_ns", "waits")

    def __init__(self) -> None:
        self.waits: Waits = NoWaits()
        self._total_ns = 0
        self._began_ns = perf_counter_ns()

    def computes(self) -> None:
        """The function's own code begins, or goes on."""

    def computed(self) -> None:
        """The function's own code has ended, or has given the next item of a stream."""

    def pause(self) -> None:
        """What comes now is waiting, or is counted otherwise."""
        self._total_ns += perf_counter_ns() - self._began_ns

    def resume(self) -> None:
        """After a pause."""
        self._began_ns = perf_counter_ns()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is waiting."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def add(self, busy_us: int) -> None:
        """So much of what was counted for several calls together is this one's."""
        self._total_ns += 1000 * busy_us

    def read_us(self) -> int:
        """The time so far. Not in a pause."""
        so_far_us = (self._total_ns + perf_counter_ns() - self._began_ns) // 1000
        return so_far_us - self.waits.waited_us


class CudaStopwatch(Stopwatch):
    """Adds up the time between pairs of events around the function's code, on the stream that is
    current where it is called: what the GPU did, and waited for of that code.

    Work on other streams counts as far as that stream waits for it. Where no events can be had
    (the process has not begun to use CUDA, the code failed), the process's time stands in.
    Reading waits until the GPU has come to the last event, which an answer has to anyway.
    """

    __slots__ = ("_began", "_device_us", "_ended")

    def __init__(self) -> None:
        super().__init__()
        self._began: torch.cuda.Event | None = None
        self._ended: torch.cuda.Event | None = None
        self._device_us: int | None = None

    def computes(self) -> None:
        """See `Stopwatch`."""
        self._add_up()
        self._began = _recorded()

    def computed(self) -> None:
        """See `Stopwatch`."""
        self._ended = _recorded()

    def add(self, busy_us: int) -> None:
        """See `Stopwatch`."""
        super().add(busy_us)
        self._device_us = (self._device_us or 0) + busy_us

    def read_us(self) -> int:
        """See `Stopwatch`."""
        self._add_up()
        if self._device_us is None:
            return super().read_us()
        return max(0, self._device_us - self.waits.waited_us)

    def _add_up(self) -> None:
        began, ended = self._began, self._ended
        self._began = self._ended = None
        if began is None or ended is None:
            return
        with suppress(RuntimeError):  # of a device that has failed, or of two devices
            ended.synchronize()
            milliseconds = began.elapsed_time(ended)
            self._device_us = (self._device_us or 0) + round(1000 * milliseconds)


def _recorded() -> torch.cuda.Event | None:
    """An event on the current stream, of a process that uses CUDA."""
    loaded = sys.modules.get("torch")
    if loaded is None or not loaded.cuda.is_initialized():
        return None
    with suppress(RuntimeError):
        event: torch.cuda.Event = loaded.cuda.Event(enable_timing=True)
        event.record()
        return event
    return None
