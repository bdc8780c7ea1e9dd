"""Best-first search over sets of available values (A*, Hart, Nilsson and Raphael 1968).

A state is the set of calls made so far; its bound is what they cost and the least that must
follow: every value that was made has to reach the output yet, every input has to be used and
every wanted word to be met. Ways out come in the order of the objective, the best one first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from dsfn.functions.workflow.planning.bounds import Bound, Bounds
from dsfn.functions.workflow.planning.catalogue import Catalogue
from dsfn.functions.workflow.planning.model import MAX_PLANS
from dsfn.functions.workflow.planning.values import State, Value
from dsfn.functions.workflow.planning.workshop import Workshop

MAX_CALLS = 8
MAX_STATES = 20_000
MAX_SEARCH_S = 5.0
# How many states more are made for alternatives once the plan is found.
MAX_STATES_FOR_OTHERS = 1_000

Rank = tuple[int, int, int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The ways that were found, the best one first, as the values that are the output. `values`:
    all that were made, by number. `complete`: whether none was passed over for a limit.
    `states`: how many were looked at."""

    goals: tuple[Value, ...]
    values: tuple[Value, ...]
    complete: bool
    states: int


@dataclass(eq=False)
class Search:
    """One search. `max_states` bounds the states that are made."""

    catalogue: Catalogue
    bounds: Bounds
    max_states: int = MAX_STATES
    max_s: float = MAX_SEARCH_S
    workshop: Workshop = field(init=False)
    _heap: list[tuple[Rank, int, State]] = field(default_factory=list)
    _seen: set[frozenset[int]] = field(default_factory=set)
    _fronts: dict[frozenset[tuple[int, bool]], list[tuple[int, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workshop = Workshop(self.catalogue, self.bounds.takers)

    def run(self) -> Outcome:
        """The best ways to the output."""
        full: dict[tuple[str, ...], Value] = {}
        lesser: dict[tuple[str, ...], tuple[Rank, Value]] = {}
        limit, ends_at = self.max_states, time.monotonic() + self.max_s
        self._push(self.workshop.start())
        while self._heap and len(full) < MAX_PLANS:
            if len(self._seen) > limit or time.monotonic() > ends_at:
                break
            _, _, state = heappop(self._heap)
            goal = self._goal(state)
            if goal is not None:
                # The same functions put together otherwise are no other plan.
                functions = self._functions(state)
                if self._meets_all(goal):
                    full.setdefault(functions, goal)
                else:
                    found = (self._own_rank(state), goal)
                    lesser[functions] = min(lesser.get(functions, found), found, key=_rank_of)
            if len(full) == 1 and goal is not None:
                limit = min(limit, len(self._seen) + MAX_STATES_FOR_OTHERS)
            if not self._is_surpassed(state):
                self._expand(state)
        # They came in the order of what they would be with all words met, which they are not.
        by_rank = (goal for _, goal in sorted(lesser.values(), key=_rank_of))
        best_first = sorted(by_rank, key=lambda goal: -sum(goal.weights))
        goals = (*full.values(), *best_first)[:MAX_PLANS]
        # The first way that meets all is the best one: what was not looked at comes after it.
        complete = bool(full) or not self._heap
        return Outcome(goals, tuple(self.workshop.values), complete, len(self._seen))

    def _own_rank(self, state: State) -> Rank:
        """The rank of a state to which nothing is added."""
        return self._rank(state, (state.ready_us, state.cost_nano, len(state.calls)))

    def _functions(self, state: State) -> tuple[str, ...]:
        usable = self.catalogue.usable
        made = (usable[v.function].name for v in state.values if v.function is not None)
        return tuple(sorted(made))

    def _expand(self, state: State) -> None:
        if len(state.calls) < MAX_CALLS:
            for successor in self.workshop.successors(state):
                self._push(successor)

    def _push(self, state: State) -> None:
        if state.calls in self._seen:
            return
        self._seen.add(state.calls)
        bound = self._bound(state)
        if bound is not None:
            heappush(self._heap, (self._rank(state, bound), len(self._seen), state))

    def _rank(self, state: State, bound: Bound) -> Rank:
        """The order in which states are looked at: by objective, then by the other one, then by
        the number of calls, then by the names of the functions."""
        latency_us, cost_nano, calls = bound
        usable = self.catalogue.usable
        names = tuple(usable[v.function].name for v in state.values if v.function is not None)
        if self.catalogue.request.optimise == "cost":
            return (cost_nano, latency_us, calls, names)
        return (latency_us, cost_nano, calls, names)

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
        after, threads = self.bounds.after, 0
        used, met = 0, [0] * len(self.catalogue.words)
        for value in state.values[len(self.catalogue.given) :]:
            used |= value.inputs
            met = [max(pair) for pair in zip(met, value.weights, strict=True)]
            follows = after[value.type]
            is_loose = value.number in state.loose
            threads += is_loose
            yield value.ready_us, follows if is_loose else (follows[0], 0, 0)
        for value in state.values[: len(self.catalogue.given)]:
            if not value.inputs & used:
                threads += 1
                yield 0, after[value.type]
        for weight, (best, bound) in zip(met, self.bounds.best, strict=True):
            if weight < best:
                # Ways that never meet it may be all there are, and take fewer calls.
                yield 0, (*bound[:2], 0)
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

    def _goal(self, state: State) -> Value | None:
        """The value that is the output, when all that was done serves it."""
        if len(state.loose) != 1:
            return None
        (number,) = state.loose
        value = self.workshop.values[number]
        all_inputs = (1 << len(self.catalogue.given)) - 1
        ends = value.inputs == all_inputs and self.catalogue.is_output(value.type, len(value.maps))
        return value if ends else None

    def _meets_all(self, goal: Value) -> bool:
        pairs = zip(goal.weights, self.bounds.best, strict=True)
        return all(weight >= best for weight, (best, _) in pairs)

    def _is_surpassed(self, state: State) -> bool:
        """Whether as many states as plans are wanted had values like these, all of them sooner
        and cheaper: then none of the plans goes through here."""
        ordered = sorted(state.values, key=lambda v: v.shape)
        alike = frozenset((v.shape, v.number in state.loose) for v in ordered)
        front = self._fronts.setdefault(alike, [])
        own = (state.cost_nano, len(state.calls), *(v.ready_us for v in ordered))
        better = sum(all(map(int.__le__, other, own)) for other in front)
        front.append(own)
        return better >= MAX_PLANS


def _rank_of(found: tuple[Rank, Value]) -> Rank:
    return found[0]
