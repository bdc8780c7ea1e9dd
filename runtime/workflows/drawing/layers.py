"""Boxes in layers: which is above which, in which order, and where exactly.

After Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System
Structures" (1981): layers by longest path, an arrow over several layers passes each between two
boxes, the order within a layer by the median of the neighbours, few sweeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median

from dsfn.functions.values import dataclass

GAP_X, GAP_Y = 28.0, 46.0
_BEND_WIDTH = 12.0
# Of a workflow with more bends the long arrows go straight: the picture is no use anyway.
MAX_BENDS = 5_000
_SWEEPS = 6

Point = tuple[float, float]
Size = tuple[float, float]
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where things lie: the top left corners of boxes, the points of arrows, and how large all
    of it is. Coordinates grow to the right and downwards, from 0."""

    corners: Mapping[str, Point]
    paths: Mapping[Pair, tuple[Point, ...]]
    size: Size


def place(sizes: Mapping[str, Size], pairs: Sequence[Pair]) -> Placed:
    """Places boxes of these sizes, of which the first of each pair is above the second. `sizes`
    is in an order in which each box comes after those above it."""
    layer = _layers(sizes, pairs)
    chains = _chains(layer, pairs)
    widths = {key: width for key, (width, _) in sizes.items()}
    widths |= {bend: _BEND_WIDTH for chain in chains.values() for bend in chain[1:-1]}
    level = dict(layer)
    for chain in chains.values():
        level |= {bend: layer[chain[0]] + at for at, bend in enumerate(chain[1:-1], start=1)}
    rows: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for key in widths:
        rows[level[key]].append(key)
    neighbours = _neighbours(chains.values(), widths)
    _sort(rows, neighbours)
    middles = _middles(rows, widths, neighbours)
    return _placed(rows, sizes, middles, chains)


def _layers(sizes: Mapping[str, Size], pairs: Sequence[Pair]) -> dict[str, int]:
    above: dict[str, list[str]] = {key: [] for key in sizes}
    for source, target in pairs:
        above[target].append(source)
    layer: dict[str, int] = {}
    for key in sizes:
        layer[key] = max((layer[source] + 1 for source in above[key]), default=0)
    below: dict[str, list[str]] = {key: [] for key in sizes}
    for source, target in pairs:
        below[source].append(target)
    # What has nothing above it moves down to just above the first that needs it.
    for key in reversed(list(sizes)):
        if not above[key] and below[key]:
            layer[key] = min(layer[target] for target in below[key]) - 1
    return layer


def _chains(layer: Mapping[str, int], pairs: Sequence[Pair]) -> dict[Pair, list[str]]:
    """For each arrow the boxes and bends that it passes, one in each layer."""
    spans = {pair: layer[pair[1]] - layer[pair[0]] - 1 for pair in pairs}
    if sum(spans.values()) > MAX_BENDS:
        spans = dict.fromkeys(spans, 0)
    return {
        (source, target): [
            source,
            *(f"bend {at} {source} {target}" for at in range(bends)),
            target,
        ]
        for (source, target), bends in spans.items()
    }


def _neighbours(
    chains: Iterable[list[str]], keys: Iterable[str]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    above: dict[str, list[str]] = {key: [] for key in keys}
    below: dict[str, list[str]] = {key: [] for key in above}
    for chain in chains:
        for upper, lower in pairwise(chain):
            above[lower].append(upper)
            below[upper].append(lower)
    return above, below


def _sort(
    rows: list[list[str]], neighbours: tuple[dict[str, list[str]], dict[str, list[str]]]
) -> None:
    """Orders each row by the medians of where its neighbours stand, down and up by turns."""
    at = {key: float(number) for row in rows for number, key in enumerate(row)}
    for sweep in range(_SWEEPS):
        beside = neighbours[sweep % 2]
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = {
                key: median(at[other] for other in beside[key]) if beside[key] else at[key]
                for key in row
            }
            row.sort(key=wanted.__getitem__)
            at.update((key, float(number)) for number, key in enumerate(row))


def _middles(
    rows: list[list[str]],
    widths: Mapping[str, float],
    neighbours: tuple[dict[str, list[str]], dict[str, list[str]]],
) -> dict[str, float]:
    """The horizontal middle of each box: near those of its neighbours, in order, not closer than
    the gap."""
    middles: dict[str, float] = {}
    for row in rows:
        x = 0.0
        for key in row:
            middles[key] = x + widths[key] / 2
            x += widths[key] + GAP_X
    for sweep in range(_SWEEPS):
        beside = neighbours[sweep % 2]
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [
                median(middles[other] for other in beside[key]) if beside[key] else middles[key]
                for key in row
            ]
            for key, middle in zip(row, _spread(row, wanted, widths), strict=True):
                middles[key] = middle
    left = min((middles[key] - widths[key] / 2 for key in middles), default=0.0)
    return {key: middle - left for key, middle in middles.items()}


def _spread(row: list[str], wanted: list[float], widths: Mapping[str, float]) -> list[float]:
    """As near to the wanted middles as the widths allow: the mean of pushing all to the right and
    of pushing all to the left."""

    def apart(a: str, b: str) -> float:
        return (widths[a] + widths[b]) / 2 + GAP_X

    right, left = list(wanted), list(wanted)
    for at in range(1, len(row)):
        right[at] = max(right[at], right[at - 1] + apart(row[at - 1], row[at]))
    for at in range(len(row) - 2, -1, -1):
        left[at] = min(left[at], left[at + 1] - apart(row[at], row[at + 1]))
    return [(a + b) / 2 for a, b in zip(right, left, strict=True)]


def _placed(
    rows: list[list[str]],
    sizes: Mapping[str, Size],
    middles: Mapping[str, float],
    chains: Mapping[Pair, list[str]],
) -> Placed:
    corners: dict[str, Point] = {}
    tops: dict[str, float] = {}
    bottoms: dict[str, float] = {}
    y = 0.0
    for row in rows:
        height = max((sizes[key][1] for key in row if key in sizes), default=0.0)
        for key in row:
            own = sizes[key][1] if key in sizes else height
            tops[key], bottoms[key] = y + (height - own) / 2, y + (height + own) / 2
            if key in sizes:
                corners[key] = (middles[key] - sizes[key][0] / 2, tops[key])
        y += height + GAP_Y
    paths = {}
    for pair, chain in chains.items():
        points = [(middles[chain[0]], bottoms[chain[0]])]
        for bend in chain[1:-1]:
            points += [(middles[bend], tops[bend]), (middles[bend], bottoms[bend])]
        paths[pair] = (*points, (middles[chain[-1]], tops[chain[-1]]))
    width = max((corners[key][0] + sizes[key][0] for key in corners), default=0.0)
    bends = (x for points in paths.values() for x, _ in points)
    return Placed(corners, paths, (max(width, *bends, 0.0), max(0.0, y - GAP_Y)))
