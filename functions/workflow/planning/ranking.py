"""The order in which the states of a search are looked at, by what must follow at the least."""

from __future__ import annotations

from collections.abc import Iterator

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.planning.bounds import Bound, Bounds
from dsfn.functions.workflow.planning.catalogue import Catalogue
from dsfn.functions.workflow.planning.values import State

MAX_CALLS = 8

Rank = tuple[int, int, int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Ranks states, the first to be looked at lowest."""

    catalogue: Catalogue
    bounds: Bounds

    def of(self, state: State) -> Rank | None:
        """By the least that a plan comes to which makes the calls of this state: no plan is better
        than the first one that is come upon. None when no plan within the limit makes them."""
        bound = self._bound(state)
        return None if bound is None else self._rank(state, bound)

    def own(self, state: State) -> Rank:
        """The rank of a plan that makes the calls of this state and no others."""
        return self._rank(state, (state.ready_us, state.cost_nano, len(state.calls)))

    def _rank(self, state: State, bound: Bound) -> Rank:
        """By objective, then by the other one, then by the number of calls, then by the names of
        the functions."""
        latency_us, cost_nano, calls = bound
        usable = self.catalogue.usable
        names = tuple(usable[v.function].name for v in state.values if v.function is not None)
        if self.catalogue.request.optimise == "cost":
            return (cost_nano, latency_us, calls, names)
        return (latency_us, cost_nano, calls, names)

    def met(self, state: State) -> list[int]:
        """How well each wanted word is met so far."""
        return [max(weights) for weights in zip(*(v.weights for v in state.values), strict=True)]

    def _bound(self, state: State) -> Bound | None:
        """The least that a plan comes to which makes the calls of this state; None when no plan
        within the limit does."""
        latency_us, more_nano, more_calls = state.ready_us, 0, 0
        for ready_us, after in self._needed(state):
            latency_us = max(latency_us, ready_us + after[0])
            more_nano, more_calls = max(more_nano, after[1]), max(more_calls, after[2])
        calls = len(state.calls) + more_calls
        return None if calls > MAX_CALLS else (latency_us, state.cost_nano + more_nano, calls)

    def _needed(self, state: State) -> Iterator[tuple[int, Bound]]:
        """What must still follow, each from when on: whatever was made has to reach the output,
        every input has to be used, and what hangs loose has to be joined."""
        after, used, threads = self.bounds.after, 0, 0
        for value in state.values[len(self.catalogue.given) :]:
            used |= value.inputs
            follows = after[value.type]
            is_loose = value.number in state.loose
            threads += is_loose
            yield value.ready_us, follows if is_loose else (follows[0], 0, 0)
        for value in state.values[: len(self.catalogue.given)]:
            if not value.inputs & used:
                threads += 1
                yield 0, after[value.type]
        for wanted, weight in zip(self.bounds.wanted, self.met(state), strict=True):
            if weight < wanted.weight:
                # Ways that never meet it may be all there are, and take fewer calls.
                yield 0, (*wanted.bound[:2], 0)
        if threads > 1:
            yield from self._joins(state, threads)

    def _joins(self, state: State, threads: int) -> Iterator[tuple[int, Bound]]:
        """What must follow when more than one value is yet to become part of the output: each
        of them goes through a call that takes several."""
        join = self.bounds.join
        if join is None:
            yield 0, (0, 0, MAX_CALLS + 1)
            return
        calls = -(-(threads - 1) // (join.width - 1))
        latency_us, cost_nano, least_calls = join.bound
        loose = [v.ready_us for v in state.values if v.number in state.loose]
        bound = (latency_us, cost_nano + (calls - 1) * join.cost_nano, least_calls + calls - 1)
        yield max(loose, default=0), bound
