"""Workflows in YAML: the same graphs as from Python, and what is refused, by line."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from album import album, classify, count, has_speech, interfaces, keep, thumbnail, transcribe
from dags import dags
from hypothesis import given
from hypothesis import strategies as st

import dsfn
from dsfn import Audio, Event, Image, Json, Text
from dsfn.functions.errors import DefinitionError
from dsfn.functions.workflow.checking import check
from dsfn.functions.workflow.dag import (
    Call,
    Choice,
    Collected,
    Constant,
    Dag,
    Decide,
    Each,
    Expr,
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
    expressions_of,
    parts_of,
)
from dsfn.functions.workflow.document import to_document
from dsfn.functions.workflow.resolving import resolve
from dsfn.functions.workflow.yaml import read_workflow
from dsfn.functions.workflow.yaml_nodes import MAX_YAML_BYTES, MAX_YAML_DEPTH, MAX_YAML_NODES

PAGE = Path(__file__).parents[3] / "docs" / "workflow-yaml.md"

ALBUM = """\
name: album
description: Labels photos and says what was said.
inputs:
  photos: [image]
  voice: audio
steps:
  classify:
    call: classify
    each: {photo: $photos}
    with: {image: $photo}
    parallel: 8
    retries: 3
  has-speech:
    call: has-speech
    with: {voice: $voice}
  when:
    when: $has-speech
    then:
      call: transcribe
      with: {audio: $voice}
    otherwise: ""
  index:
    call: index
    with: {labels: $classify, text: $when}
output: $index
result: json
"""


def read(text: str) -> Dag:
    return read_workflow(text.encode(), "flow.yaml")


def test_python_and_yaml_give_the_same_graph_of_the_album() -> None:
    assert to_document(read(ALBUM)) == to_document(album.trace())


@dsfn.on(type="photo.uploaded", prefix={"source": "/cam"})
@dsfn.on(suffix={"subject": ".png"})
@dsfn.workflow(
    name="everything",
    timeout="2h",
    budget="0.050000001",
    parallel=3,
    schedule="0 6 * * 1",
    tags=["photos", "speech"],
)
def everything(
    event: Event,
    photos: list[Image],
    voices: list[Audio],
    voice: Audio,
    threshold: float = 0.5,
    note: Text | None = None,
    rows: list[str] = ["a: b"],  # noqa: B006
    data: Json = {"x": [1, None]},  # noqa: B006
) -> Json:
    """All that there is."""
    careful = classify.step(
        name="careful",
        retries=2,
        backoff_policy="linear",
        backoff_delay="200ms",
        timeout="PT30S",
        cache=True,
        budget="0.01",
        fallback=dsfn.deployed("other"),
    )

    def of_pair(photo: Image, sound: Audio) -> Json:
        small = thumbnail.step(name="small")(photo, side=data["sizes"][0]["the small one"])
        chosen = dsfn.when(
            has_speech.step(name="heard")(sound),
            lambda: {"text": transcribe(sound), "of": [small, 1]},
            lambda: dsfn.map(
                lambda row: keep.step(name="kept")(row), rows, name="nested", parallel=2
            ),
            name="chosen",
        )
        return [small, chosen]

    pairs = dsfn.map(of_pair, photos, voices, name="pairs")
    first = careful(photos[0], 3)
    listed = dsfn.map(dsfn.deployed("album").step(name="books"), [photos, photos])
    counted = count.step(fallback=["$", {"call": 1}])(to=threshold)
    dsfn.when(note, "$5", lambda: dsfn.deployed("look")(event=event, like=first), name="maybe")
    return {"pairs": pairs, "rest": dsfn.gather(first, listed, counted), "no": None}


EVERYTHING = """\
name: everything
description: |
  All that there is.
timeout: 2h
budget: 0.050000001
parallel: 3
schedule: 0 6 * * 1
tags: [photos, speech]
triggers:
  - type: photo.uploaded
    prefix: {source: /cam}
  - suffix: {subject: .png}
inputs:
  event: event
  photos: [image]
  voices: [audio]
  voice: audio
  threshold: {json: number, default: 0.5}
  note: {type: text, default: null}
  rows: {json: {type: array, items: {type: string}}, default: ["a: b"]}
  data: {json: {}, default: {x: [1, ~]}}
steps:
  pairs:
    each: {photo: $photos, sound: $voices}
    steps:
      small:
        call: thumbnail
        with: {image: $photo, side: '$data.sizes[0]["the small one"]'}
      heard: {call: has-speech, with: {voice: $sound}}
      chosen:
        when: $heard
        then:
          steps:
            transcribe: {call: transcribe, with: {audio: $sound}}
          output: {text: $transcribe, of: [$small, 1]}
        otherwise:
          steps:
            nested:
              each: {row: $rows}
              parallel: 2
              steps:
                kept: {call: keep, with: {file: $row}}
              output: $kept
          output: $nested
    output: [$small, $chosen]
  careful:
    call: classify
    with: {image: "$photos[0]", top: 3}
    retries: 2
    backoff_policy: linear
    backoff_delay: 200ms
    timeout: PT30S
    cache: true
    budget: 0.01
    fallback: {call: other}
  books:
    call: album
    each: {book: [$photos, $photos]}
    with: {"0": $book}
  count:
    call: count
    with: {to: $threshold}
    fallback: {value: [$$, {call: 1}]}
  maybe:
    when: $note
    then: $$5
    otherwise: {call: look, with: {event: $event, like: $careful}}
output:
  pairs: $pairs
  rest: [$careful, $books, $count]
  no: null
result: json
"""


def test_yaml_says_everything_that_python_does() -> None:
    mine, other = to_document(read(EVERYTHING)), to_document(everything.trace())
    assert mine == other


def test_steps_may_be_written_in_any_order() -> None:
    head, steps = ALBUM.split("steps:\n")
    steps, tail = steps.split("output:", 1)
    parts = re.split(r"^(?=  \w)", steps, flags=re.M)[1:]
    turned = f"{head}steps:\n{''.join(reversed(parts))}output:{tail}"
    found = resolve(read(turned), interfaces())
    check(found, interfaces())
    assert sorted(map(str, found.steps)) == sorted(map(str, album.trace().steps))


def test_scalars_are_those_of_yaml_1_2() -> None:
    dag = read(
        "name: f\nsteps: {}\n"
        "output: [no, 12:30, 010, 0o10, 0xff, 1e3, .5, ~, True, 2024-01-01, '1', -7, 1_000]\n"
    )
    assert isinstance(dag.output, Constant)
    assert json.loads(dag.output.text) == [
        *("no", "12:30", 10, 8, 255, 1000.0, 0.5, None, True, "2024-01-01", "1", -7, "1_000"),
    ]


def test_anchors_may_be_used_again() -> None:
    dag = read(
        "name: f\nsteps:\n"
        "  a: &careful {call: double, with: {n: 1}, retries: 3}\n"
        "  b: *careful\noutput: [$a, $b]\n"
    )
    first, second = dag.steps
    assert isinstance(first, Call) and second == replace(first, id="b")


def as_yaml(dag: Dag) -> str:
    """A random workflow as YAML, of which JSON is a part."""
    return json.dumps(_Written(dag).document())


class _Written:
    """Writes a graph of which every decision and map gives one thing."""

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        exprs = [e for step in dag.steps for e in expressions_of(step)]
        parts = [part for e in (*exprs, dag.output) for part in parts_of(e)]
        self.choices = {p.decide: p for p in parts if isinstance(p, Choice)}
        self.collected = {p.each: p.of for p in parts if isinstance(p, Collected)}

    def document(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            i.name: {"json": {"type": "array", "items": i.schema} if i.many else i.schema}
            for i in self.dag.inputs
        }
        shown["m"]["default"] = 7
        return {
            "name": "random",
            "description": "Random.",
            "inputs": shown,
            "steps": self.steps(None),
            "output": self.expr(self.dag.output),
        }

    def steps(self, within: Within | None) -> dict[str, Any]:
        return {s.id: self.step(s) for s in self.dag.steps if s.within == within}

    def step(self, step: Step) -> dict[str, Any]:
        match step:
            case Call():
                given = {name: self.expr(e) for name, e in step.arguments}
                options = {
                    f.name.removesuffix("_s"): getattr(step.options, f.name)
                    for f in fields(StepOptions)
                    if f.name not in ("budget_nano", "fallback")
                    and getattr(step.options, f.name) is not None
                }
                shown = {"call": step.function, "with": given, **options}
                if step.options.fallback is not None and step.options.fallback.value is not None:
                    shown["fallback"] = {"value": json.loads(step.options.fallback.value.text)}
                return shown
            case Decide():
                choice = self.choices.get(step.id, Choice(step.id, Constant("1"), Constant("1")))
                branches = {
                    word: {"steps": self.steps(Within(step.id, taken)), "output": self.expr(e)}
                    for word, taken, e in (
                        ("then", True, choice.then),
                        ("otherwise", False, choice.otherwise),
                    )
                }
                return {"when": self.expr(step.condition), **branches}
            case Each():
                return {
                    "each": {f"{step.id}_{i}": self.expr(e) for i, e in enumerate(step.items)},
                    "parallel": step.parallel,
                    "steps": self.steps(Within(step.id)),
                    "output": self.expr(self.collected.get(step.id, Constant("1"))),
                }

    def expr(self, expr: Expr) -> Any:
        match expr:
            case Input(name) | Result(name) | Choice(name) | Collected(name):
                return f"${name}"
            case Item(each, index):
                return f"${each}_{index}"
            case Constant(text):
                return json.loads(text)
            case ListOf(items):
                return [self.expr(e) for e in items]
            case ObjectOf(members):
                return {name: self.expr(e) for name, e in members}
            case Field(of, key):
                return f"{self.expr(of)}{[key] if isinstance(key, int) else '.' + key}"


OPTIONS = st.builds(
    StepOptions,
    retries=st.integers(0, 100),
    backoff_policy=st.sampled_from(["linear", "exponential"]),
    backoff_delay_s=st.sampled_from([0.0, 0.2, 5.0]),
    timeout_s=st.none() | st.sampled_from([0.5, 60.0]),
    cache=st.booleans(),
    fallback=st.none() | st.builds(Fallback, value=st.just(Constant("0"))),
)


@given(dags(options=OPTIONS))
def test_any_graph_can_be_written_in_yaml(dag: Dag) -> None:
    again = read(as_yaml(dag))
    assert again.steps == dag.steps
    # Lists without references in them are constants.
    if not isinstance(again.output, Constant):
        assert again.output == dag.output


def test_the_workflows_of_the_documentation_are_right() -> None:
    blocks = re.findall(r"^```yaml\n(name:.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) >= 3
    for block in blocks:
        read(block)


HEAD = "name: f\ninputs: {photo: image, n: {json: integer}}\n"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "a workflow must be a mapping"),
        ("- a\n", 1, "a workflow must be a mapping"),
        ("steps: {}\noutput: 1\n", 1, "a workflow needs 'name'"),
        ("name: f\noutput: 1\n", 1, "a workflow needs 'steps'"),
        ("name: f\nsteps: {}\n", 1, "a workflow needs 'output'"),
        ("name: F\nsteps: {}\noutput: 1\n", 1, "lower-case letters"),
        ("name: f\nsteps: {}\noutput: 1\nstep: {}\n", 4, "a workflow has no 'step'"),
        ("name: f\nsteps: {}\noutput: 1\nschedule: daily\n", 4, "is no cron expression"),
        ("name: f\nsteps: {}\noutput: 1\nbudget: lots\n", 4, "is no amount"),
        ("name: f\nsteps: {}\noutput: 1\nparallel: 0\n", 4, "parallel must be"),
        ("name: f\nsteps: {}\noutput: 1\ntags: a\n", 4, "tags must be a list"),
        ("name: f\nsteps: {}\noutput: 1\ntriggers:\n  - {}\n", 5, "needs a condition"),
        ("name: f\nsteps: {}\noutput: 1\ntriggers: [{Type: a}]\n", 4, "'Type' is not the name"),
        ("name: f\nsteps: {}\noutput: 1\nresult: sound\n", 4, "result must be of a kind"),
        ("name: f\nsteps: {}\noutput: 1\ninputs:\n  a: [image, audio]\n", 5, "must be of one kind"),
        ("name: f\nsteps: {}\noutput: 1\ninputs:\n  a: [json]\n", 5, "a JSON list is"),
        ("name: f\nsteps: {}\noutput: 1\ninputs:\n  a: {json: int}\n", 5, "a type of JSON is"),
        ("name: f\nsteps: {}\noutput: 1\ninputs:\n  a: {json: {type: int}}\n", 5, "no JSON schema"),
        ("name: f\nsteps: {}\noutput: 1\ninputs:\n  a: {default: 1}\n", 5, "either 'type'"),
        ("name: f\nsteps: {}\noutput: 1\ninputs:\n  a: {type: text, x: 1}\n", 5, "has no 'x'"),
        ("name: f\nsteps: {}\noutput: 1\ninputs:\n  a b: text\n", 1, "is no name"),
        (f"{HEAD}steps:\n  a: {{}}\noutput: 1\n", 4, "step 'a' needs 'call', 'each' or 'when'"),
        (f"{HEAD}steps:\n  a: 3\noutput: 1\n", 4, "step 'a' must be a mapping"),
        (f"{HEAD}steps:\n  A: {{call: f}}\noutput: 1\n", 4, "The name of a step"),
        (f"{HEAD}steps:\n  n: {{call: f}}\noutput: 1\n", 4, "'n' is the name of something else"),
        (f"{HEAD}steps:\n  a: {{call: f}}\n  a: {{call: f}}\noutput: 1\n", 5, "'a' is there twice"),
        (f"{HEAD}steps:\n  a: {{call: F}}\noutput: 1\n", 4, "The name of a function"),
        (f"{HEAD}steps:\n  a: {{call: f, retires: 3}}\noutput: 1\n", 4, "has no 'retires'"),
        (f"{HEAD}steps:\n  a:\n    call: f\n    retries: -1\noutput: 1\n", 6, "retries must be"),
        (f"{HEAD}steps:\n  a: {{call: f, fallback: g}}\noutput: 1\n", 4, "a fallback must be"),
        (f"{HEAD}steps:\n  a: {{call: f, fallback: {{}}}}\noutput: 1\n", 4, "a fallback is either"),
        (f"{HEAD}steps:\n  a: {{call: f, with: [1]}}\noutput: 1\n", 4, "with must be a mapping"),
        (f"{HEAD}steps:\n  a: {{call: f, each: $n}}\noutput: 1\n", 4, "must be a mapping"),
        (f"{HEAD}steps:\n  a: {{call: f, each: {{}}}}\noutput: 1\n", 4, "needs a name for the"),
        (f"{HEAD}steps:\n  a: {{call: f, each: {{n: $n}}}}\noutput: 1\n", 4, "'n' is the name of"),
        (f"{HEAD}steps:\n  a: {{each: {{x: $n}}, steps: {{}}}}\noutput: 1\n", 4, "need 'output'"),
        (f"{HEAD}steps:\n  a: {{when: $n}}\noutput: 1\n", 4, "step 'a' needs 'then'"),
        (f"{HEAD}steps: {{}}\noutput:\n  - $phot\n", 5, r"no \$phot here \(is it \$photo\?\)"),
        (f"{HEAD}steps: {{}}\noutput: $ 5\n", 4, r"a text that begins with \$ is written \$\$"),
        (f"{HEAD}steps: {{}}\noutput: $n.\n", 4, "takes no member"),
        (f"{HEAD}steps: {{}}\noutput: $n[-1]\n", 4, "takes no member"),
        (f'{HEAD}steps: {{}}\noutput: $n["\\q"]\n', 4, "is no text in quotes"),
        (
            f"{HEAD}steps:\n  a:\n    when: $n\n    then:\n      steps:\n"
            "        b: {call: f}\n      output: 1\noutput: $b\n",
            10,
            r"step 'b' \(line 8\) is in a map or branch and is not there outside",
        ),
        (
            f"{HEAD}steps:\n  a: {{call: f, with: {{x: $b}}}}\n  b: {{call: f, with: {{x: $c}}}}\n"
            "  c: {call: f, with: {x: $b}}\noutput: 1\n",
            5,
            "steps need each other: b -> c -> b",
        ),
        (f"{HEAD}steps:\n  a: {{call: f, with: {{x: $a}}}}\noutput: 1\n", 4, "a -> a"),
        (
            f"{HEAD}steps:\n  a:\n    each: {{x: $n}}\n    steps: {{b: {{call: f}}}}\n"
            "    output: 1\n  b: {call: f}\noutput: 1\n",
            8,
            "there are two steps of the name 'b'",
        ),
        ("a: [1\n", 2, "not YAML"),
        ("a: b: c\n", 1, "not YAML"),
        ("name: f\n\tsteps: 1\n", 2, "not YAML"),
        ("name: !!python/object:os.system f\n", 1, "tags such as"),
        ("name: !mine f\n", 1, "tags such as !mine"),
        ("name: *f\n", 1, "anchor"),
        ("a: &a [*a]\n", 1, "anchor"),
        ("1: 2\n", 1, "a key must be a text"),
        ("a: 1\n---\nb: 1\n", 2, "a second document"),
        ("a: .inf\n", 1, "a number that JSON lacks"),
        ("a: 1e999\n", 1, "the number is too large"),
        ("a: " + "[" * 500 + "]" * 500, 1, f"nested deeper than {MAX_YAML_DEPTH} levels"),
        ("[" * 200_000, 1, f"nested deeper than {MAX_YAML_DEPTH} levels"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
                for before, name in zip("abcdefgh", "bcdefghi", strict=True)
            ),
            5,
            f"more than {MAX_YAML_NODES} values, those of aliases included",
        ),
        ("a: [" + "1," * MAX_YAML_NODES + "]", 1, f"more than {MAX_YAML_NODES} values"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem) as refused:
        read(text)
    assert refused.value.fields["line"] == line
    assert refused.value.message.startswith(f"flow.yaml, line {line}: ")


def test_files_that_are_too_large_or_no_text_are_refused() -> None:
    with pytest.raises(DefinitionError, match=f"more than {MAX_YAML_BYTES >> 10} KiB"):
        read("#" * (MAX_YAML_BYTES + 1))
    with pytest.raises(DefinitionError, match="is not UTF-8"):
        read_workflow(b"name: \xff\n", "flow.yaml")
    with pytest.raises(DefinitionError, match="not YAML"):
        read("name: \x00\n")


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_whatever_a_file_holds_it_is_read_or_refused(source: str | bytes) -> None:
    data = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
    with pytest.raises(DefinitionError):
        read_workflow(data, "flow.yaml")


@given(st.data())
def test_a_damaged_workflow_is_read_or_refused(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([ALBUM, EVERYTHING]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    cut = text[:start] + data.draw(st.text("$[]{}:- ab\n\"'&*0", max_size=5)) + text[end:]
    try:
        read(cut)
    except DefinitionError as error:
        assert error.message.startswith("flow.yaml, line ")
