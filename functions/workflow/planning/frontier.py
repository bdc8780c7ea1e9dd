"""The states that a search has yet to look at, in an order."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from dsfn.functions.workflow.planning.model import MAX_PLANS
from dsfn.functions.workflow.planning.ranking import Rank
from dsfn.functions.workflow.planning.values import State


class Frontier:
    """Gives the states that were pushed by their rank, each set of calls once; those without a
    rank never."""

    def __init__(self, rank: Callable[[State], Rank | None], start: State) -> None:
        self._rank = rank
        self._heap: list[tuple[Rank, int, State]] = []
        self._seen: set[frozenset[int]] = set()
        self._fronts: dict[frozenset[tuple[int, bool]], list[tuple[int, ...]]] = {}
        self.push(start)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to look at."""
        return not self._heap

    @property
    def states(self) -> int:
        """How many states were pushed."""
        return len(self._seen)

    def push(self, state: State) -> None:
        """Puts a state in its place, unless its calls were here before."""
        if state.calls in self._seen:
            return
        self._seen.add(state.calls)
        rank = self._rank(state)
        if rank is not None:
            heappush(self._heap, (rank, len(self._seen), state))

    def pop(self) -> State:
        """Takes out the first state."""
        return heappop(self._heap)[2]

    def is_surpassed(self, state: State) -> bool:
        """Whether as many states as plans are wanted had values like these, all of them sooner
        and cheaper: then none of the plans goes through here."""
        ordered = sorted(state.values, key=lambda v: v.shape)
        alike = frozenset((v.shape, v.number in state.loose) for v in ordered)
        front = self._fronts.setdefault(alike, [])
        own = (state.cost_nano, len(state.calls), *(v.ready_us for v in ordered))
        better = sum(all(map(int.__le__, other, own)) for other in front)
        front.append(own)
        return better >= MAX_PLANS
