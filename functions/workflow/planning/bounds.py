"""What can be reached at all, and the least that is still to come: bounds of a search.

A relaxed view: each function has all it needs as soon as one value fits each parameter, and
what stands between a value and the output is the cheapest chain, whatever else joins it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.planning.catalogue import Catalogue, Slot, Usable
from dsfn.functions.workflow.planning.model import MAX_PLANS

Bound = tuple[int, int, int]
"""Latency (us), cost (nano) and number of calls."""


@dataclass(frozen=True, slots=True)
class Join:
    """The least that follows values which are to be joined. `width`: how many values the widest
    function takes; `cost_nano`: of the cheapest call that takes more than one."""

    bound: Bound
    width: int
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What meets a wanted word best. `weight`: the most that a useful function has for it;
    `functions`: those that have as much, none when no useful one is about it; `bound`: the least
    that a plan still needs which has yet to call one of them."""

    weight: int
    functions: tuple[int, ...]
    bound: Bound


@dataclass(frozen=True, slots=True)
class Bounds:
    """Types and functions are numbers of the catalogue.

    `types`: those of all that can be made of the inputs. `reachable`: the functions that can be
    called; `useful`: those of them that lead to the output, but for those that others are better
    than in every way. `takers`: by type, the useful ones of which a value of it can be an
    argument. `after`: by type, the least that follows until the output is there; a type that
    leads nowhere is missing. `wanted`: by wanted word. `join`: the least that follows values
    which are to be joined, None when no function joins any.
    """

    types: frozenset[int]
    reachable: tuple[int, ...]
    useful: tuple[int, ...]
    takers: Mapping[int, tuple[int, ...]]
    after: Mapping[int, Bound]
    wanted: tuple[Wanted, ...]
    join: Join | None


def bounds_of(catalogue: Catalogue) -> Bounds:
    """The bounds of one search."""
    types, reachable = _forwards(catalogue)
    takers = {t: [i for i in reachable if _feeds(catalogue, t, i)] for t in sorted(types)}
    after = _after(catalogue, reachable, takers)
    useful = _worthwhile(catalogue, [i for i in reachable if catalogue.usable[i].gives in after])
    worthwhile, words = set(useful), range(len(catalogue.words))
    return Bounds(
        types=frozenset(types),
        reachable=tuple(reachable),
        useful=useful,
        takers={t: tuple(i for i in found if i in worthwhile) for t, found in takers.items()},
        after=after,
        wanted=tuple(_wanted(catalogue, useful, after, word) for word in words),
        join=_join(catalogue, useful, after),
    )


def _worthwhile(catalogue: Catalogue, found: list[int]) -> tuple[int, ...]:
    """Without those that take and give the same, and fit the wanted words as well, as so many
    others that are faster and cheaper that none of the plans would call them."""
    alike: dict[object, list[Usable]] = {}
    kept = []
    for i in sorted(found, key=lambda i: (catalogue.usable[i].latency_us, i)):
        function = catalogue.usable[i]
        slots = [
            (s.name, s.type, s.parameter.required) for s in (*function.required, *function.optional)
        ]
        others = alike.setdefault((tuple(slots), function.gives, function.weights), [])
        better = (f.cost_nano <= function.cost_nano and f.rounds <= function.rounds for f in others)
        if sum(better) < MAX_PLANS:
            kept.append(i)
        others.append(function)
    return tuple(sorted(kept))


def _forwards(catalogue: Catalogue) -> tuple[set[int], list[int]]:
    """The types of all that can be made of the inputs, and the functions that can be called."""
    types: set[int] = set()
    running: list[int] = []
    waiting = {i: list(f.required or f.optional) for i, f in enumerate(catalogue.usable)}
    fresh = {given.type for given in catalogue.given}
    while fresh:
        types |= fresh
        ready = [i for i, slots in waiting.items() if _are_fed(catalogue, i, slots, fresh)]
        running += ready
        for i in ready:
            del waiting[i]
        fresh = {catalogue.usable[i].gives for i in ready} - types
    return types, sorted(running)


def _are_fed(catalogue: Catalogue, i: int, slots: list[Slot], fresh: set[int]) -> bool:
    """Whether nothing is missing any more; takes out of `slots` what the new types feed."""
    before = len(slots)
    slots[:] = [s for s in slots if not any(catalogue.ways(t, s) for t in fresh)]
    if catalogue.usable[i].required:
        return not slots
    return len(slots) < before


def _feeds(catalogue: Catalogue, source: int, i: int) -> bool:
    """Whether values of a type can be an argument of a function."""
    function = catalogue.usable[i]
    return any(catalogue.ways(source, s) for s in (*function.required, *function.optional))


def _after(
    catalogue: Catalogue, reachable: list[int], takers: Mapping[int, list[int]]
) -> dict[int, Bound]:
    """The least of each kind that follows a type."""
    producers: dict[int, list[int]] = {}
    for source, found in takers.items():
        for i in found:
            producers.setdefault(i, []).append(source)
    by_result: dict[int, list[int]] = {}
    for i in reachable:
        by_result.setdefault(catalogue.usable[i].gives, []).append(i)

    def before(type_: int, weight: Callable[[int], int]) -> list[tuple[int, int]]:
        found = by_result.get(type_, ())
        return [(weight(i), source) for i in found for source in producers.get(i, ())]

    ends = [t for t in takers if catalogue.may_be_output(t)]
    usable = catalogue.usable
    latency = _least(ends, lambda t: before(t, lambda i: usable[i].latency_us))
    cost = _least(ends, lambda t: before(t, lambda i: usable[i].cost_nano))
    calls = _least(ends, lambda t: before(t, lambda i: 1))
    return {t: (latency[t], cost[t], calls[t]) for t in latency}


def _least(ends: list[int], before: Callable[[int], list[tuple[int, int]]]) -> dict[int, int]:
    """The least sum from each type to one of `ends` (Dijkstra 1959, backwards)."""
    least: dict[int, int] = {}
    heap = [(0, t) for t in sorted(ends)]
    while heap:
        total, found = heappop(heap)
        if found in least:
            continue
        least[found] = total
        for weight, source in before(found):
            if source not in least:
                heappush(heap, (total + weight, source))
    return least


def _wanted(
    catalogue: Catalogue, useful: tuple[int, ...], after: Mapping[int, Bound], word: int
) -> Wanted:
    weights = {i: catalogue.usable[i].weights[word] for i in useful}
    weight = max(weights.values(), default=0)
    if weight == 0:
        return Wanted(0, (), (0, 0, 0))
    functions = tuple(i for i in useful if weights[i] == weight)
    bound = _least_by_way_of([catalogue.usable[i] for i in functions], after)
    return Wanted(weight, functions, bound)


def _join(catalogue: Catalogue, useful: tuple[int, ...], after: Mapping[int, Bound]) -> Join | None:
    functions = [f for i in useful if (f := catalogue.usable[i]).width > 1]
    if not functions:
        return None
    return Join(
        bound=_least_by_way_of(functions, after),
        width=max(f.width for f in functions),
        cost_nano=min(f.cost_nano for f in functions),
    )


def _least_by_way_of(functions: Sequence[Usable], after: Mapping[int, Bound]) -> Bound:
    """The least that a call of one of these takes together with what follows it."""
    return (
        min(f.latency_us + after[f.gives][0] for f in functions),
        min(f.cost_nano + after[f.gives][1] for f in functions),
        min(1 + after[f.gives][2] for f in functions),
    )
