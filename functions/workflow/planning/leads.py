"""The order of a search that goes for the wanted functions: by how few calls lead there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.planning.bounds import Bounds
from dsfn.functions.workflow.planning.catalogue import Catalogue
from dsfn.functions.workflow.planning.ranking import MAX_CALLS, Rank, Ranking
from dsfn.functions.workflow.planning.types import MAX_NESTING
from dsfn.functions.workflow.planning.values import State

Place = tuple[int, int]
"""The type of a value, and how many maps are around it."""


@dataclass(frozen=True, slots=True)
class Leads:
    """`calls`: for each wanted word, by place, how few calls it takes from a value there until a
    function was called that meets the word best, whatever else joins; a place that leads to none
    is missing."""

    ranking: Ranking
    calls: tuple[Mapping[Place, int], ...]

    def rank(self, state: State) -> Rank | None:
        """By how few calls a plan has that makes those of this state, were each wanted word met
        apart from the others; then by how few are missing to the words, then by what there is so
        far. None when no plan within the limit makes them.

        What is come upon first need not be the best, but calls that lead to nothing wanted come
        late, however cheap and many they are.
        """
        least = self.ranking.of(state)
        if least is None:
            return None
        missing, own = self._missing(state), self.ranking.own(state)
        return (least[2] + missing, missing, own[0], own[3])

    def _missing(self, state: State) -> int:
        places = {(value.type, len(value.maps)) for value in state.values}
        pairs = zip(self.ranking.bounds.wanted, self.ranking.met(state), self.calls, strict=True)
        return sum(
            min((calls[place] for place in places if place in calls), default=MAX_CALLS)
            for wanted, weight, calls in pairs
            if weight < wanted.weight
        )


def leads_of(catalogue: Catalogue, bounds: Bounds) -> Leads:
    """The leads of one search."""
    origins: dict[Place, list[tuple[int, Place]]] = {}
    for type_, functions in bounds.takers.items():
        for depth in range(MAX_NESTING + 1):
            for i in functions:
                for place in set(_results(catalogue, i, (type_, depth))):
                    origins.setdefault(place, []).append((i, (type_, depth)))
    calls = tuple(_fewest(origins, wanted.functions) for wanted in bounds.wanted)
    return Leads(Ranking(catalogue, bounds), calls)


def _results(catalogue: Catalogue, i: int, source: Place) -> Iterator[Place]:
    """Where the results are of calls that take a value from a place. What else they take can
    have more maps around it, and then the result has."""
    function, (type_, depth) = catalogue.usable[i], source
    for slot in (*function.required, *function.optional):
        for way in catalogue.ways(type_, slot):
            least = depth + way.mapped - way.collected
            if way.collected <= depth:
                most = least if function.width == 1 else MAX_NESTING
                yield from ((function.gives, around) for around in range(least, most + 1))


def _fewest(
    origins: Mapping[Place, Sequence[tuple[int, Place]]], functions: Sequence[int]
) -> dict[Place, int]:
    """The fewest calls from each place to one of these functions, that one included."""
    about, calls = set(functions), 1
    found: dict[Place, int] = {}
    layer = {source for pairs in origins.values() for i, source in pairs if i in about}
    while layer:
        found |= dict.fromkeys(layer, calls)
        before = {source for place in layer for _, source in origins.get(place, ())}
        layer, calls = before - found.keys(), calls + 1
    return found
