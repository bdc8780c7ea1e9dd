"""Workflows and runs as pictures."""

from __future__ import annotations

import re
import time
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from pictured import album, call, workflow, workflows

from dsfn.functions.workflow.dag import (
    Constant,
    Dag,
    Decide,
    Each,
    Fallback,
    Field,
    Input,
    Item,
    ListOf,
    ObjectOf,
    Result,
    Step,
    StepOptions,
    Within,
    WorkflowInput,
)
from dsfn.runtime.workflows.amounts import duration, money
from dsfn.runtime.workflows.drawing import Progress, draw_mermaid, draw_svg, draw_text
from dsfn.runtime.workflows.drawing.graph import Arrow, graph_of
from dsfn.runtime.workflows.drawing.layers import place

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("1")</script> & "]} --> n0'

RUN = {
    "map": Progress({"running": 1}, 3_200_000),
    "classify": Progress({"succeeded": 12, "running": 8}, 3_100_000, cost_nano=12_000, retried=1),
    "has-speech": Progress({"succeeded": 1}, 12_000, cost_nano=500, cached=1),
    "when": Progress({"succeeded": 1}, 0),
    "transcribe": Progress({"failed": 1}, 1_000_000),
}


def lines(dag: Dag) -> list[str]:
    return [line.text for line in draw_text(dag)]


def test_a_workflow_is_drawn_as_lines_with_its_branches_and_fan_outs_indented() -> None:
    assert lines(album()) == [
        "photos  list of image",
        "voice   audio",
        "each of photos, 8 at once",
        "│ classify    <- each of photos (retries 3)",
        "│ caption     <- each of photos, classify",
        "has-speech    <- voice",
        "has-speech?",
        "├ yes",
        "│ transcribe  <- voice",
        "└ no",
        'index         <- all caption, transcribe or ""',
        "=> index",
    ]


def test_a_run_is_drawn_with_the_state_time_and_cost_of_each_step() -> None:
    drawn = draw_text(album(), RUN, "USD")
    assert [line.text for line in drawn if line.state is not None] == [
        "each of photos  running    3.2 s",
        "│ classify      running    12 of 20, 3.1 s, 0.000012 USD, 1 retried",
        "│ caption       waiting",
        "has-speech      succeeded  12.0 ms, 0.0000005 USD, cached",
        "has-speech?     succeeded",
        "│ transcribe    failed     1.0 s",
        "index           waiting",
    ]
    assert [line.state for line in drawn if "transcribe" in line.text] == ["failed"]


def test_options_and_every_kind_of_expression_are_put_into_words() -> None:
    options = StepOptions(
        timeout_s=2.5, cache=True, budget_nano=1, fallback=Fallback(function="plain")
    )
    constant = Fallback(value=Constant.of({"label": "x" * 100}))
    dag = workflow(
        call("look", Field(Field(Input("x"), "boxes"), 0), options=options),
        call(
            "guess", ListOf((Result("look"), Constant("1"))), options=StepOptions(fallback=constant)
        ),
        output=ObjectOf((("a", Result("look")), ("b", Result("guess")))),
        inputs=(WorkflowInput("x", "json", required=False),),
    )
    assert lines(dag) == [
        "x  json, optional",
        "look   <- x.boxes[0] (timeout 2.5 s, cache, budget, else plain)",
        'guess  <- [look, 1] (else {"label":"xxxxxxxxxxxxx…)',
        "=> {a: look, b: guess}",
    ]


@given(workflows())
@settings(deadline=None, max_examples=60)
def test_no_line_is_longer_than_a_terminal_and_every_step_has_one(dag: Dag) -> None:
    for run in (None, {step.id: Progress({"running": 3}, 10**9) for step in dag.steps}):
        drawn = draw_text(dag, run, "USD")
        assert max(len(line.text) for line in drawn) <= 80
    assert len([line for line in drawn if line.state]) == len(dag.steps)


def test_arrows_say_what_flows_and_which_branch_is_which() -> None:
    assert set(graph_of(album()).arrows) == {
        Arrow("input photos", "step map"),
        Arrow("step classify", "step caption"),
        Arrow("input voice", "step has-speech"),
        Arrow("step has-speech", "step when"),
        Arrow("input voice", "step transcribe"),
        Arrow("step when", "step transcribe", "yes"),
        Arrow("step map", "step index"),
        Arrow("step transcribe", "step index"),
        Arrow("step when", "step index", "no"),
        Arrow("step index", "output"),
    }


def test_what_flows_into_a_fan_out_from_elsewhere_ends_at_its_edge() -> None:
    dag = workflow(
        call("embed", Input("query")),
        Each("map", (Input("texts"),)),
        call("compare", Item("map"), Result("embed"), within=Within("map")),
        output=Result("embed"),
        inputs=(WorkflowInput("query", "text"), WorkflowInput("texts", "text", many=True)),
    )
    assert Arrow("step embed", "step map") in graph_of(dag).arrows


def test_mermaid_has_a_subgraph_for_a_fan_out_and_labels_for_branches() -> None:
    assert draw_mermaid(album()).splitlines() == [
        "flowchart TD",
        '  n0(["photos<br/>list of image"])',
        '  n1(["voice<br/>audio"])',
        '  subgraph n2["each of photos<br/>8 at once"]',
        '    n3["classify<br/>retries 3"]',
        '    n4["caption"]',
        "  end",
        '  n5["has-speech"]',
        '  n6{"has-speech?"}',
        '  n7["transcribe"]',
        '  n8["index"]',
        '  n9(["output"])',
        "  n0 --> n2",
        "  n3 --> n4",
        "  n1 --> n5",
        "  n5 --> n6",
        "  n1 --> n7",
        "  n6 -->|yes| n7",
        "  n2 --> n8",
        "  n7 --> n8",
        "  n6 -->|no| n8",
        "  n8 --> n9",
    ]


def test_mermaid_of_a_run_has_a_class_for_each_state() -> None:
    text = draw_mermaid(album(), RUN, "USD")
    assert "  class n7 failed\n" in text
    assert "transcribe<br/>failed, 1.0 s" in text


@pytest.fixture
def hostile() -> Dag:
    return workflow(
        call("show", Constant.of(HOSTILE)),
        Decide("when", Constant.of(HOSTILE)),
        output=Result("show"),
        inputs=(WorkflowInput(HOSTILE, "text"),),
    )


def test_names_cannot_break_out_of_a_picture(hostile: Dag) -> None:
    ElementTree.fromstring(draw_svg(hostile))
    assert "<script" not in draw_svg(hostile)
    mermaid = draw_mermaid(hostile)
    assert "<script" not in mermaid
    for label in re.findall(r'"(.*)"', mermaid):
        assert not set(label.replace("<br/>", "").replace(" ", "")) & set('"<>{}[]()|`&')


def boxes(dag: Dag) -> list[ElementTree.Element]:
    """The outlines in a picture, but for its paper."""
    root = ElementTree.fromstring(draw_svg(dag))
    return [group[0] for group in root.iter(f"{SVG}g")]


def bounds(outline: ElementTree.Element) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    if outline.tag == f"{SVG}polygon":
        points = [tuple(map(float, pair.split(","))) for pair in outline.attrib["points"].split()]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        return min(xs), min(ys), max(xs), max(ys)
    x, y, width, height = (float(outline.attrib[k]) for k in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def test_an_svg_picture_shows_every_name_state_and_branch() -> None:
    root = ElementTree.fromstring(draw_svg(album(), RUN, "USD"))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    for words in (
        "photos",
        "list of image",
        "each of photos",
        "8 at once",
        "classify",
        "running, 12 of 20, 3.1 s, 0.000012 USD, 1 retried",
        "failed, 1.0 s",
        "yes",
        "no",
    ):
        assert words in texts


@given(workflows())
@settings(deadline=None, max_examples=60)
def test_boxes_do_not_overlap_unless_one_is_in_the_other(dag: Dag) -> None:
    drawn = [bounds(outline) for outline in boxes(dag)]
    assert len(drawn) == len(graph_of(dag).boxes)
    for a, b in combinations(drawn, 2):
        apart = a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
        inner, outer = (a, b) if a[2] - a[0] < b[2] - b[0] else (b, a)
        contained = all(outer[i] <= inner[i] and inner[i + 2] <= outer[i + 2] for i in (0, 1))
        assert apart or contained


@given(workflows())
@settings(deadline=None, max_examples=60)
def test_arrows_go_down_from_the_edge_of_one_box_to_that_of_another(dag: Dag) -> None:
    graph = graph_of(dag)
    sizes = {box.key: (100.0, 40.0) for box in graph.within(None)}
    top = [(a.source, a.target) for a in graph.arrows if a.source in sizes and a.target in sizes]
    placed = place(sizes, list(dict.fromkeys(top)))
    for (source, target), points in placed.paths.items():
        assert all(upper <= lower for (_, upper), (_, lower) in pairwise(points))
        assert points[0][1] == placed.corners[source][1] + 40
        assert points[-1][1] == placed.corners[target][1]


def test_the_largest_workflow_is_drawn_in_seconds() -> None:
    steps: list[Step] = [call("s0", Input("x"))]
    steps += [call(f"s{n}", Result(f"s{n - 1}"), Input("x")) for n in range(1, 1000)]
    everything = ListOf(tuple(Result(step.id) for step in steps))
    dag = workflow(*steps, output=everything, inputs=(WorkflowInput("x", "json"),))
    begun = time.monotonic()
    assert len(boxes(dag)) == 1002
    assert len(draw_text(dag)) == 1002
    assert draw_mermaid(dag).count("-->") == 2999
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("states", "state", "count"),
    [
        ({}, "waiting", ""),
        ({"succeeded": 1}, "succeeded", ""),
        ({"succeeded": 3}, "succeeded", "3"),
        ({"succeeded": 3, "skipped": 1}, "succeeded", "4"),
        ({"succeeded": 3, "waiting": 1}, "running", "3 of 4"),
        ({"succeeded": 3, "running": 1, "failed": 1}, "failed", "3 of 5"),
        ({"succeeded": 3, "cancelled": 1}, "cancelled", "3 of 4"),
        ({"skipped": 1}, "skipped", ""),
    ],
)
def test_many_items_have_one_state(states: dict[str, int], state: str, count: str) -> None:
    assert (Progress(states).state, Progress(states).count) == (state, count)


def test_times_and_amounts_are_as_short_as_they_can_be() -> None:
    times = (999, 1500, 999_949, 1_500_000, 125_000_000, 11_520_000_000)
    assert [duration(us) for us in times] == [
        "999 µs",
        "1.5 ms",
        "999.9 ms",
        "1.5 s",
        "2 min 5 s",
        "3 h 12 min",
    ]
    assert [money(nano) for nano in (0, 1, 2_340_000, 3 * 10**9)] == [
        "0",
        "0.000000001",
        "0.00234",
        "3",
    ]
    assert money(-1_500_000_000) == "-1.5"
