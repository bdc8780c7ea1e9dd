"""A workflow as a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dsfn.functions.workflow.dag import Dag
from dsfn.runtime.workflows.drawing.colours import FILLS
from dsfn.runtime.workflows.drawing.graph import Box, BoxKind, Graph, graph_of
from dsfn.runtime.workflows.drawing.progress import Progress

_SHAPES: Mapping[BoxKind, tuple[str, str]] = {
    "input": ("([", "])"),
    "output": ("([", "])"),
    "call": ("[", "]"),
    "decide": ("{", "}"),
}
# Mermaid's own: a character as an entity, with # in the place of &.
_ENTITIES = {char: f"#{ord(char)};" for char in "\"#<>&`'\\{}[]()|;"}


def draw_mermaid(dag: Dag, run: Mapping[str, Progress] | None = None, currency: str = "") -> str:
    """The flowchart; with `run`, the progress of each step by its id, coloured by state."""
    graph = graph_of(dag)
    return "\n".join(_lines(graph, run, currency)) + "\n"


def _lines(graph: Graph, run: Mapping[str, Progress] | None, currency: str) -> Iterator[str]:
    ids = {box.key: f"n{number}" for number, box in enumerate(graph.boxes)}
    yield "flowchart TD"
    yield from _boxes(graph, None, ids, run, currency, "  ")
    for arrow in graph.arrows:
        label = f"|{arrow.label}|" if arrow.label else ""
        yield f"  {ids[arrow.source]} -->{label} {ids[arrow.target]}"
    if run is not None:
        yield from _colours(graph, ids, run)


def _boxes(
    graph: Graph,
    inside: str | None,
    ids: Mapping[str, str],
    run: Mapping[str, Progress] | None,
    currency: str,
    indent: str,
) -> Iterator[str]:
    for box in graph.within(inside):
        label = _label(box, run, currency)
        if box.kind == "each":
            yield f"{indent}subgraph {ids[box.key]}[{label}]"
            yield from _boxes(graph, box.key, ids, run, currency, indent + "  ")
            yield f"{indent}end"
        else:
            opening, closing = _SHAPES[box.kind]
            yield f"{indent}{ids[box.key]}{opening}{label}{closing}"


def _label(box: Box, run: Mapping[str, Progress] | None, currency: str) -> str:
    lines = [box.title]
    if box.notes:
        lines.append(", ".join(box.notes))
    if run is not None and box.step is not None:
        progress = run.get(box.step, Progress())
        lines.append(", ".join((progress.state, *progress.words(currency))))
    return '"' + "<br/>".join(escaped(line) for line in lines) + '"'


def escaped(text: str) -> str:
    """A text that Mermaid shows as it is."""
    one_line = " ".join(text.split())
    return "".join(_ENTITIES.get(char, char) for char in one_line)


def _colours(graph: Graph, ids: Mapping[str, str], run: Mapping[str, Progress]) -> Iterator[str]:
    by_state: dict[str, list[str]] = {}
    for box in graph.boxes:
        if box.step is not None:
            state = run.get(box.step, Progress()).state
            by_state.setdefault(state, []).append(ids[box.key])
    for state, boxes in by_state.items():
        fill, stroke = FILLS[state]
        yield f"  classDef {state} fill:{fill},stroke:{stroke},color:#1f2933"
        yield f"  class {','.join(boxes)} {state}"
