"""Names of functions and workflows that a workflow calls, found or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from album import album, classify, has_speech, interfaces, thumbnail, transcribe
from dags import INTERFACES, PURE, dags, inputs, interpret
from hypothesis import given
from hypothesis import strategies as st

import dsfn
from dsfn import Audio, Image, Json
from dsfn.functions.errors import DefinitionError
from dsfn.functions.workflow.checking import check
from dsfn.functions.workflow.dag import MAX_STEPS, Call, Dag, Input, ListOf, Result, StepOptions
from dsfn.functions.workflow.resolving import resolve

KNOWN = interfaces()


def test_positional_arguments_get_the_names_of_the_parameters() -> None:
    @dsfn.workflow
    def flow(photo: Image) -> Json:
        return dsfn.deployed("classify")(photo, top=3), dsfn.deployed("thumbnail")(photo, 8)

    first, second = resolve(flow.trace(), KNOWN).steps
    assert isinstance(first, Call) and isinstance(second, Call)
    assert [name for name, _ in first.arguments] == ["image", "top"]
    assert [name for name, _ in second.arguments] == ["image", "side"]


def test_a_deployed_workflow_gives_the_same_steps_as_one_that_is_at_hand() -> None:
    @dsfn.workflow
    def speech(voice: Audio, otherwise: str = "-") -> Json:
        return dsfn.when(has_speech(voice), lambda: transcribe(voice), otherwise)

    @dsfn.workflow(name="flow")
    def at_hand(voices: list[Audio], photo: Image) -> Json:
        said = dsfn.map(lambda voice: [speech(voice, "none"), speech(voice)], voices, name="all")
        return said, album([photo], voices[0])["labels"], classify(photo)

    @dsfn.workflow(name="flow")
    def by_name(voices: list[Audio], photo: Image) -> Json:
        known, book = dsfn.deployed("speech"), dsfn.deployed("album")
        said = dsfn.map(
            lambda voice: [known(voice, "none"), known(voice=voice)], voices, name="all"
        )
        return said, book([photo], voices[0])["labels"], dsfn.deployed("classify")(photo)

    workflows = {"speech": speech.trace(), "album": album.trace()}
    found = resolve(by_name.trace(), KNOWN, workflows)
    assert found == resolve(at_hand.trace(), KNOWN)
    check(found, KNOWN)


@given(dags(max_steps=5), dags(max_steps=5), inputs(), st.booleans())
def test_an_inlined_workflow_comes_to_what_it_comes_to_alone(
    inner: Dag, other: Dag, given_: dict[str, object], with_default: bool
) -> None:
    arguments = tuple((i.name, Input(i.name)) for i in inner.inputs if i.name != "m")
    calls = (
        Call("one", "inner", arguments if with_default else (*arguments, ("m", Input("m")))),
        Call("two", "other", (*arguments, ("m", Input("n")))),
    )
    outer = replace(inner, steps=calls, output=ListOf((Result("one"), Result("two"))))
    workflows = {"inner": replace(inner, options=replace(inner.options, name="inner"))}
    workflows["other"] = replace(other, options=replace(other.options, name="other"))
    found = resolve(outer, INTERFACES, workflows)
    check(found, INTERFACES)
    alone = {k: v for k, v in given_.items() if not with_default or k != "m"}
    expected = [
        interpret(inner, alone).output,
        interpret(other, {**given_, "m": given_["n"]}).output,
    ]
    assert interpret(found, given_).output == expected
    assert set(found.functions) <= set(PURE)


def dag_that_calls(name: str, *called: str) -> Dag:
    @dsfn.workflow(name=name)
    def flow(n: Json) -> Json:
        return [dsfn.deployed(other)(n) for other in called]

    return flow.trace()


def test_workflows_that_call_each_other_are_refused() -> None:
    known = {"b": dag_that_calls("b", "c"), "c": dag_that_calls("c", "a")}
    known["a"] = dag_that_calls("a", "b")
    with pytest.raises(DefinitionError, match=r"the workflow calls itself \(a -> b -> c -> a\)"):
        resolve(known["a"], KNOWN, known)


def test_workflows_that_grow_without_end_are_refused_in_time() -> None:
    known = {"w0": dag_that_calls("w0", "count", "count")}
    for i in range(1, 40):
        known[f"w{i}"] = dag_that_calls(f"w{i}", f"w{i - 1}", f"w{i - 1}")
    with pytest.raises(DefinitionError, match=f"more than {MAX_STEPS} steps"):
        resolve(known["w39"], KNOWN, known)


def test_values_that_grow_without_end_are_refused_in_time() -> None:
    known = {}
    for i in range(1, 40):
        dag = dag_that_calls(f"v{i}", f"v{i - 1}")
        known[f"v{i}"] = replace(dag, output=ListOf((dag.output, dag.output)))
    known["v0"] = dag_that_calls("v0")
    with pytest.raises(DefinitionError, match="values are passed on"):
        resolve(known["v39"], KNOWN, known)


@pytest.mark.parametrize(
    ("dag", "problem"),
    [
        (
            dag_that_calls("flow", "clasify"),
            r"calls 'clasify', which is not deployed \(is it classify\?\)",
        ),
        (dag_that_calls("flow", "zzz"), "step 'zzz' calls 'zzz', which is not deployed\\.$"),
        (dag_that_calls("flow", "albums"), r"is it album\?"),
        (dag_that_calls("flow", "album"), "step 'album' does not give 'voice'"),
    ],
)
def test_unknown_names_are_refused_and_near_ones_named(dag: Dag, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        resolve(dag, KNOWN, {"album": album.trace()})


def test_calls_that_no_parameters_fit_are_refused() -> None:
    dag = dag_that_calls("flow", "thumbnail")
    (call,) = dag.steps
    assert isinstance(call, Call)
    for arguments, problem in [
        ((("2", Input("n")),), "gives thumbnail 3 arguments or more; it takes 2"),
        ((("0", Input("n")), ("image", Input("n"))), "gives the argument 'image' twice"),
    ]:
        wrong = replace(dag, steps=(replace(call, arguments=arguments),))
        with pytest.raises(DefinitionError, match=problem):
            resolve(wrong, KNOWN)
    options = StepOptions(retries=3)
    wrong = replace(dag, steps=(replace(call, function="album", options=options),))
    with pytest.raises(DefinitionError, match="calls a workflow; retries"):
        resolve(wrong, KNOWN, {"album": album.trace()})
    assert thumbnail.called == "thumbnail"
