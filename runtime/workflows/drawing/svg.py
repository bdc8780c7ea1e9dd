"""A workflow as an SVG picture of its own: no script, no font and no style from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Dag
from dsfn.runtime.workflows.drawing.colours import FAINT, FILLS, INK, PAPER, PLAIN
from dsfn.runtime.workflows.drawing.graph import Arrow, Box, Graph, graph_of
from dsfn.runtime.workflows.drawing.layers import Placed, Point, Size, place
from dsfn.runtime.workflows.drawing.progress import Progress

_MARGIN = 24.0
_PAD_X, _PAD_Y = 16.0, 10.0
_LINE = 17.0
_CHAR = 7.4
_SMALL_CHAR = 6.4
_MAX_CHARS = 60
_GROUP_PAD = 20.0
_TITLE_SIZE, _NOTE_SIZE = 13, 11


def draw_svg(dag: Dag, run: Mapping[str, Progress] | None = None, currency: str = "") -> str:
    """The picture; with `run`, the progress of each step by its id, coloured by state."""
    drawing = _Drawing(graph_of(dag), run, currency)
    return "\n".join(drawing.document(dag.name)) + "\n"


@dataclass(frozen=True, slots=True)
class _Label:
    """What stands in a box: a name and small lines below it."""

    name: str
    small: tuple[str, ...]

    @property
    def size(self) -> Size:
        width = max(len(self.name) * _CHAR, *(len(line) * _SMALL_CHAR for line in self.small), 0)
        return width + 2 * _PAD_X, (1 + len(self.small)) * _LINE + 2 * _PAD_Y


class _Drawing:
    def __init__(self, graph: Graph, run: Mapping[str, Progress] | None, currency: str) -> None:
        self._graph = graph
        self._run = run
        self._currency = currency
        self._labels = {box.key: self._label(box) for box in graph.boxes}
        inside = {box.key: box.inside for box in graph.boxes}
        # An arrow joins two boxes that lie in the same one.
        self._arrows: dict[str | None, list[Arrow]] = {}
        for arrow in graph.arrows:
            self._arrows.setdefault(inside[arrow.source], []).append(arrow)
        self._placed: dict[str | None, Placed] = {}
        self._sizes: dict[str, Size] = {}

    def document(self, name: str) -> Iterator[str]:
        width, height = self._measure(None)
        width, height = width + 2 * _MARGIN, height + 2 * _MARGIN
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
            f' viewBox="0 0 {width:.0f} {height:.0f}" role="img"'
            ' font-family="ui-sans-serif, system-ui, Helvetica, Arial, sans-serif">'
        )
        yield f"<title>{escape(name)}</title>"
        yield (
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
            f' markerHeight="7" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z"'
            f' fill="{FAINT}"/></marker></defs>'
        )
        yield f'<rect width="100%" height="100%" fill="{PAPER}"/>'
        yield from self._draw(None, (_MARGIN, _MARGIN))
        yield "</svg>"

    def _measure(self, inside: str | None) -> Size:
        """Places what lies in a box, after what lies in the boxes in it."""
        sizes: dict[str, Size] = {}
        for box in self._graph.within(inside):
            sizes[box.key] = self._box_size(box)
        self._sizes |= sizes
        pairs = list(dict.fromkeys((a.source, a.target) for a in self._arrows.get(inside, ())))
        self._placed[inside] = place(sizes, pairs)
        return self._placed[inside].size

    def _box_size(self, box: Box) -> Size:
        width, height = self._labels[box.key].size
        if box.kind == "each":
            inner_width, inner_height = self._measure(box.key)
            return max(width, inner_width + 2 * _GROUP_PAD), height + inner_height + _GROUP_PAD
        # A rhombus holds half as much of a text.
        return (width + 44, height + 26) if box.kind == "decide" else (width, height)

    def _draw(self, inside: str | None, origin: Point) -> Iterator[str]:
        placed = self._placed[inside]
        for arrow in self._arrows.get(inside, ()):
            points = placed.paths[arrow.source, arrow.target]
            yield from _arrow(arrow, [(x + origin[0], y + origin[1]) for x, y in points])
        for box in self._graph.within(inside):
            x, y = placed.corners[box.key]
            yield from self._box(box, (x + origin[0], y + origin[1]))

    def _box(self, box: Box, corner: Point) -> Iterator[str]:
        (x, y), (width, height) = corner, self._sizes[box.key]
        fill, stroke = self._colours(box)
        yield "<g>" + _outline(box, corner, (width, height), fill, stroke)
        label = self._labels[box.key]
        top = y + _PAD_Y
        if box.kind != "each":
            top = y + (height - (1 + len(label.small)) * _LINE) / 2
        yield from _text(label, x + width / 2, top)
        if box.kind == "each":
            inner_width = self._placed[box.key].size[0]
            left = x + (width - inner_width) / 2
            yield from self._draw(box.key, (left, y + label.size[1]))
        yield "</g>"

    def _label(self, box: Box) -> _Label:
        small = [", ".join(box.notes)] if box.notes else []
        if self._run is not None and box.step is not None:
            progress = self._run.get(box.step, Progress())
            small.append(", ".join((progress.state, *progress.words(self._currency))))
        return _Label(_cut(box.title), tuple(_cut(line) for line in small))

    def _colours(self, box: Box) -> tuple[str, str]:
        if box.kind in ("input", "output"):
            return PAPER, FAINT
        if self._run is None or box.step is None:
            return PLAIN
        return FILLS[self._run.get(box.step, Progress()).state]


def _outline(box: Box, corner: Point, size: Size, fill: str, stroke: str) -> str:
    (x, y), (width, height) = corner, size
    paint = f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"'
    if box.kind == "decide":
        middle_x, middle_y = x + width / 2, y + height / 2
        corners = (
            f"{middle_x:.1f},{y:.1f} {x + width:.1f},{middle_y:.1f}"
            f" {middle_x:.1f},{y + height:.1f} {x:.1f},{middle_y:.1f}"
        )
        return f'<polygon points="{corners}" {paint}/>'
    radius = height / 2 if box.kind in ("input", "output") else 6
    if box.kind == "each":
        paint = f'fill="{fill}" fill-opacity="0.45" stroke="{stroke}" stroke-dasharray="5 4"'
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        f' rx="{radius:.0f}" {paint}/>'
    )


def _text(label: _Label, x: float, top: float) -> Iterator[str]:
    y = top + _LINE * 0.75
    yield (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="{_TITLE_SIZE}"'
        f' fill="{INK}">{escape(label.name)}</text>'
    )
    for line in label.small:
        y += _LINE
        yield (
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="{_NOTE_SIZE}"'
            f' fill="{FAINT}">{escape(line)}</text>'
        )


def _arrow(arrow: Arrow, points: list[Point]) -> Iterator[str]:
    """A curve through the points, upright at each; its label at its beginning."""
    (x, y), *rest = points
    path = [f"M{x:.1f} {y:.1f}"]
    for to_x, to_y in rest:
        half = (to_y - y) / 2
        path.append(f"C{x:.1f} {y + half:.1f} {to_x:.1f} {to_y - half:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    yield (
        f'<path d="{"".join(path)}" fill="none" stroke="{FAINT}" stroke-width="1.3"'
        ' marker-end="url(#head)"/>'
    )
    if arrow.label:
        (from_x, from_y), (to_x, to_y) = points[0], points[1]
        side, anchor = (-6, "end") if to_x < from_x else (6, "start")
        yield (
            f'<text x="{(from_x + to_x) / 2 + side:.1f}" y="{(from_y + to_y) / 2 + 4:.1f}"'
            f' text-anchor="{anchor}" font-size="{_NOTE_SIZE}" fill="{INK}">'
            f"{escape(arrow.label)}</text>"
        )


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"
