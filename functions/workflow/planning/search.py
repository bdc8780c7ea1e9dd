"""Best-first search over sets of available values (A*, Hart, Nilsson and Raphael 1968).

A state is the set of calls made so far; its bound is what they cost and the least that must
follow: every value that was made has to reach the output yet, every input has to be used and
every wanted word to be met. Ways out come in the order of the objective, the best one first.

Where calls that are wanted take long, everything cheap comes before them. A search that ends at
its limit without a way that meets all words is followed by a short one that goes for the words.
"""

from __future__ import annotations

import time
from dataclasses import field

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.planning.bounds import Bounds
from dsfn.functions.workflow.planning.catalogue import Catalogue
from dsfn.functions.workflow.planning.frontier import Frontier
from dsfn.functions.workflow.planning.leads import leads_of
from dsfn.functions.workflow.planning.model import MAX_PLANS
from dsfn.functions.workflow.planning.ranking import MAX_CALLS, Rank, Ranking
from dsfn.functions.workflow.planning.values import State, Value
from dsfn.functions.workflow.planning.workshop import Workshop

MAX_STATES = 20_000
MAX_SEARCH_S = 5.0
# How many times shorter the search is that goes for the words, in states and in time.
WANTED_SHARE = 5
# How many states more are made for alternatives once the plan is found.
MAX_STATES_FOR_OTHERS = 1_000


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
    """One search. `max_states` bounds the states that are made, `max_s` the time that it takes,
    going for the words apart."""

    catalogue: Catalogue
    bounds: Bounds
    max_states: int = MAX_STATES
    max_s: float = MAX_SEARCH_S
    workshop: Workshop = field(init=False)
    _full: dict[tuple[str, ...], tuple[Rank, Value]] = field(default_factory=dict)
    _lesser: dict[tuple[str, ...], tuple[Rank, Value]] = field(default_factory=dict)
    _ranking: Ranking = field(init=False)

    def __post_init__(self) -> None:
        self.workshop = Workshop(self.catalogue, self.bounds.takers)
        self._ranking = Ranking(self.catalogue, self.bounds)

    def run(self) -> Outcome:
        """The best ways to the output."""
        start = self.workshop.start()
        best = Frontier(self._ranking.of, start)
        self._look(best, self.max_states, self.max_s, MAX_PLANS)
        # The first way that meets all is the best one: what was not looked at comes after it.
        complete, states = bool(self._full) or best.is_empty, best.states
        if not complete:
            wanted = Frontier(leads_of(self.catalogue, self.bounds).rank, start)
            limit = self.max_states // WANTED_SHARE
            # They come in no order: as many as there is time for are compared.
            self._look(wanted, limit, self.max_s / WANTED_SHARE, limit)
            states += wanted.states
        full = [goal for _, goal in sorted(self._full.values(), key=_rank_of)]
        lesser = [goal for _, goal in sorted(self._lesser.values(), key=_rank_of)]
        lesser.sort(key=lambda goal: -sum(goal.weights))
        goals = (*full, *lesser)[:MAX_PLANS]
        return Outcome(goals, tuple(self.workshop.values), complete, states)

    def _look(self, frontier: Frontier, max_states: int, max_s: float, enough: int) -> None:
        """Keeps the ways that are come upon, until `enough` of them meet all words."""
        limit, ends_at = max_states, time.monotonic() + max_s
        while not frontier.is_empty and len(self._full) < enough:
            if frontier.states > limit or time.monotonic() > ends_at:
                break
            state = frontier.pop()
            goal = self._goal(state)
            if goal is not None:
                self._keep(state, goal)
                if self._full:
                    limit = min(limit, frontier.states + MAX_STATES_FOR_OTHERS)
            if not frontier.is_surpassed(state) and len(state.calls) < MAX_CALLS:
                for successor in self.workshop.successors(state):
                    frontier.push(successor)

    def _keep(self, state: State, goal: Value) -> None:
        """The same functions put together otherwise are no other plan."""
        usable = self.catalogue.usable
        made = (usable[v.function].name for v in state.values if v.function is not None)
        functions = tuple(sorted(made))
        kept = self._full if self._meets_all(goal) else self._lesser
        found = (self._ranking.own(state), goal)
        kept[functions] = min(kept.get(functions, found), found, key=_rank_of)

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
        pairs = zip(goal.weights, self.bounds.wanted, strict=True)
        return all(weight >= wanted.weight for weight, wanted in pairs)


def _rank_of(found: tuple[Rank, Value]) -> Rank:
    return found[0]
