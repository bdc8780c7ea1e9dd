"""What can be reached at all, and the least that is still to come: bounds of a search.

A relaxed view: each function has all it needs as soon as one value fits each parameter, and
what stands between a value and the output is the cheapest chain, whatever else joins it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from dsfn.functions.workflow.planning.catalogue import Catalogue, Slot, Usable

Bound = tuple[int, int, int]
"""Latency (us), cost (nano) and number of calls."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """`types`: those of all that can be made of the inputs. `reachable`: the functions that can
    be called, as numbers of the catalogue; `useful`: those of them that lead to the output.
    `after`: by type, the least that follows until the output is there; a type that leads
    nowhere is missing. `best`: for each wanted word, the most that a useful function has, and
    the least that a plan still needs which has yet to call such a one."""

    types: frozenset[int]
    reachable: tuple[int, ...]
    useful: tuple[int, ...]
    after: dict[int, Bound]
    best: tuple[tuple[int, Bound], ...]


def bounds_of(catalogue: Catalogue) -> Bounds:
    """The bounds of one search."""
    types, reachable = _forwards(catalogue)
    after = _after(catalogue, reachable, types)
    useful = tuple(i for i in reachable if catalogue.usable[i].gives in after)
    best = tuple(_best(catalogue, useful, after, word) for word in range(len(catalogue.words)))
    return Bounds(frozenset(types), tuple(reachable), useful, after, best)


def feeds(catalogue: Catalogue, source: int, function: Usable) -> bool:
    """Whether values of a type can be an argument of a function."""
    slots = (*function.required, *function.optional)
    return any(catalogue.ways(source, slot) for slot in slots)


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
    return not slots if catalogue.usable[i].required else len(slots) < before


def _after(catalogue: Catalogue, reachable: list[int], types: set[int]) -> dict[int, Bound]:
    """For each bound on its own the least sum of what follows a type (Dijkstra, backwards)."""
    consumers = {
        t: [i for i in reachable if feeds(catalogue, t, catalogue.usable[i])] for t in types
    }
    producers: dict[int, set[int]] = {}
    for source, found in consumers.items():
        for i in found:
            producers.setdefault(i, set()).add(source)
    by_result: dict[int, list[int]] = {}
    for i in reachable:
        by_result.setdefault(catalogue.usable[i].gives, []).append(i)
    ends = [t for t in types if catalogue.may_be_output(t)]
    columns = [
        _least(ends, by_result, producers, lambda i: catalogue.usable[i].latency_us),
        _least(ends, by_result, producers, lambda i: catalogue.usable[i].cost_nano),
        _least(ends, by_result, producers, lambda i: 1),
    ]
    return {t: (columns[0][t], columns[1][t], columns[2][t]) for t in columns[0]}


def _least(
    ends: list[int],
    by_result: dict[int, list[int]],
    producers: dict[int, set[int]],
    weight: Callable[[int], int],
) -> dict[int, int]:
    least: dict[int, int] = {}
    heap = [(0, t) for t in sorted(ends)]
    while heap:
        sum_, found = heappop(heap)
        if found in least:
            continue
        least[found] = sum_
        for i in by_result.get(found, ()):
            for source in producers.get(i, ()):
                if source not in least:
                    heappush(heap, (sum_ + weight(i), source))
    return least


def _best(
    catalogue: Catalogue, useful: tuple[int, ...], after: dict[int, Bound], word: int
) -> tuple[int, Bound]:
    weight = max((catalogue.usable[i].weights[word] for i in useful), default=0)
    if weight == 0:
        return 0, (0, 0, 0)
    bounds = []
    for i in useful:
        function = catalogue.usable[i]
        if function.weights[word] == weight:
            latency_us, cost_nano, calls = after[function.gives]
            bounds.append(
                (latency_us + function.latency_us, cost_nano + function.cost_nano, calls + 1)
            )
    return weight, (min(b[0] for b in bounds), min(b[1] for b in bounds), min(b[2] for b in bounds))
