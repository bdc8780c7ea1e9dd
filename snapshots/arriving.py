"""Addresses whose bytes are still on their way, and waiting for them."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter_ns

from dsfn.functions.errors import DsfnError
from dsfn.snapshots.memory import Arrival


class Span:
    """A slab's addresses, from `begin` to `end`; the bytes before `ready` are there."""

    __slots__ = ("arrival", "begin", "end", "ready")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.begin = arrival.address
        self.end = arrival.address + arrival.size_bytes
        self.ready = self.begin


class Arriving:
    """Slabs on their way.

    `waited_us` adds up how long was waited for them. After a `failure` every wait raises it.
    """

    def __init__(self, arrivals: Iterable[Arrival]) -> None:
        self.spans = [Span(arrival) for arrival in arrivals]
        self.waited_us = 0
        self.failure: DsfnError | None = None

    @property
    def complete(self) -> bool:
        """Whether all is there."""
        return all(span.arrival.arrived_bytes == span.arrival.size_bytes for span in self.spans)

    def wait(self, span: Span, end: int) -> None:
        """Waits until the bytes before the address `end` are there. Raises as `Arrival.wait`."""
        if self.failure is not None:
            raise self.failure
        began_ns = perf_counter_ns()
        try:
            span.ready = span.begin + span.arrival.wait(min(end, span.end) - span.begin)
        except DsfnError as error:
            self.failure = error
            raise
        finally:
            self.waited_us += (perf_counter_ns() - began_ns) // 1000

    def wait_for(self, begin: int, end: int) -> None:
        """Waits until what lies between these addresses is there. Raises as `Arrival.wait`."""
        for span in self.spans:
            if begin < span.end and span.ready < end and span.begin < end:
                self.wait(span, end)

    def wait_for_all(self) -> None:
        """Waits until all is there. Raises as `Arrival.wait`."""
        for span in self.spans:
            self.wait(span, span.end)
