"""What bringing a replica back took, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter_ns

from dsfn.functions.values import dataclass

Parts = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """Microseconds. `restore_us` is all that it took but for waiting until others gave room,
    which is `room_us`; `parts` are those of both that there were, as in `Phases`."""

    restore_us: int = 0
    room_us: int = 0
    parts: Parts = ()


class Stages:
    """Notes when each stage of bringing a replica back has ended."""

    def __init__(self) -> None:
        self._parts: dict[str, int] = {}
        self._at_ns = perf_counter_ns()

    def ended(self, name: str, least_us: int = 0) -> None:
        """The stage that began where the last one ended has ended. One that took less than
        `least_us` counts towards the next."""
        now_ns = perf_counter_ns()
        took_us = (now_ns - self._at_ns) // 1000
        if took_us >= least_us:
            self._parts[name] = self._parts.get(name, 0) + took_us
            self._at_ns = now_ns

    def answered(self, worker_us: int, worker_parts: Mapping[str, int]) -> BroughtBack:
        """All of it, with what the worker tells of its own restore, the last stage."""
        ours = self._parts.items()
        restore_us = worker_us + sum(us for name, us in ours if name.startswith("restore."))
        parts = tuple((name, us) for name, us in (*ours, *worker_parts.items()) if us)
        return BroughtBack(restore_us, self._parts.get("queue.room", 0), parts)
