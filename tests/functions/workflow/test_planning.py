"""Plans: which functions lead from what there is to what is wanted, and which way is best."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offered import INTEGER, NUMBER, STRING, many, offer, plan_of, record

import dsfn
from dsfn.functions.errors import InvalidInput, NoPlan, UsageError
from dsfn.functions.workflow.dag import (
    Call,
    Collected,
    Each,
    Field,
    Input,
    Item,
    Result,
    Within,
)
from dsfn.functions.workflow.planning.asking import request_of
from dsfn.functions.workflow.planning.bounds import bounds_of
from dsfn.functions.workflow.planning.catalogue import MAX_OFFERS, catalogue_of
from dsfn.functions.workflow.planning.model import STEP_US, Estimate, Offer, Plan
from dsfn.functions.workflow.planning.plan import make_plan
from dsfn.functions.workflow.planning.schemas import MAX_PLACES, plain, promises
from dsfn.functions.workflow.planning.search import MAX_STATES, Search
from dsfn.functions.workflow.planning.words import TAG, alike, words_of

SEGMENT = record(start_s=NUMBER, end_s=NUMBER)

TRANSCRIBE = offer("transcribe", {"audio": "audio"}, STRING, about="Writes down what is said.")
SUMMARISE = offer("summarise", {"text": "text"}, "text", tags=("summary",))
DETECT = offer(
    "detect-speech", {"audio": "audio"}, record(duration_s=NUMBER, segments=many(SEGMENT))
)
CUT = offer("cut", {"audio": "audio", "segment": SEGMENT}, "audio")
JOIN = offer("join", {"texts": many(STRING)}, "text")
CLASSIFY = offer("classify", {"image": "image"}, many(record(label=STRING, score=NUMBER)))
INDEX = offer(
    "index", {"labels": many(record(label=STRING, score=NUMBER)), "text": STRING}, record(id=STRING)
)


def call(plan: Plan, step: str) -> Call:
    found = plan.dag.by_id[step]
    assert isinstance(found, Call)
    return found


# Ways


def test_a_chain_leads_over_types_that_fit() -> None:
    plan = plan_of([TRANSCRIBE, SUMMARISE, CLASSIFY], "audio/wav", "text/plain", want="summary")
    assert plan.functions == ("transcribe", "summarise")
    assert plan.dag.inputs[0].kind == "audio"
    assert call(plan, "transcribe").arguments == (("audio", Input("audio")),)
    assert call(plan, "summarise").arguments == (("text", Result("transcribe")),)
    assert plan.dag.output == Result("summarise")


def test_a_list_that_a_function_gives_is_mapped_over_and_joined() -> None:
    plan = plan_of([DETECT, CUT, JOIN, TRANSCRIBE], "audio/wav", "text/plain", want="cut")
    assert plan.functions == ("detect-speech", "cut", "transcribe", "join")
    each = plan.dag.by_id["each"]
    assert isinstance(each, Each)
    assert each.items == (Field(Result("detect-speech"), "segments"),)
    assert call(plan, "cut").within == Within("each")
    assert dict(call(plan, "cut").arguments) == {"audio": Input("audio"), "segment": Item("each")}
    assert call(plan, "transcribe").within == Within("each")
    joined = Collected("each", Result("transcribe"))
    assert call(plan, "join").arguments == (("texts", joined),)
    assert call(plan, "join").within is None


def test_a_wanted_list_is_what_the_map_collected() -> None:
    plan = plan_of([DETECT, CUT, TRANSCRIBE], "audio/wav", "text/plain[]")
    assert plan.functions == ("detect-speech", "cut", "transcribe")
    assert plan.dag.output == Collected("each", Result("transcribe"))


def test_an_input_that_is_a_list_is_mapped_over() -> None:
    plan = plan_of([CLASSIFY], "photos=image/*[]", "application/json")
    (photos,) = plan.dag.inputs
    assert (photos.name, photos.kind, photos.many) == ("photos", "image", True)
    assert call(plan, "classify").arguments == (("image", Item("each")),)
    assert plan.dag.output == Collected("each", Result("classify"))


def test_maps_nest_when_a_list_is_made_of_each_item() -> None:
    plan = plan_of(
        [DETECT, CUT, TRANSCRIBE], "audio/*[]", "application/json", want="cut transcribe"
    )
    outer, inner = [s for s in plan.dag.steps if isinstance(s, Each)]
    assert outer.items == (Input("audio"),)
    assert inner.within == Within(outer.id)
    assert call(plan, "transcribe").within == Within(inner.id)
    assert plan.dag.output == Collected(outer.id, Collected(inner.id, Result("transcribe")))


def test_two_inputs_are_joined_by_a_function_that_takes_both() -> None:
    plan = plan_of([CLASSIFY, TRANSCRIBE, INDEX], ["image/png", "audio/wav"], "application/json")
    assert sorted(plan.functions) == ["classify", "index", "transcribe"]
    arguments = dict(call(plan, "index").arguments)
    assert arguments == {"labels": Result("classify"), "text": Result("transcribe")}


def test_inputs_go_to_the_parameters_that_bear_their_names() -> None:
    answer = offer("answer", {"question": STRING, "context": STRING}, "text")
    plan = plan_of([answer], ["context=text/plain", "question=text/plain"], "text/plain")
    arguments = dict(call(plan, "answer").arguments)
    assert arguments == {"question": Input("question"), "context": Input("context")}


def test_no_value_is_two_arguments_of_one_call() -> None:
    compare = offer("compare", {"one": STRING, "other": STRING}, "text")
    with pytest.raises(NoPlan):
        plan_of([compare], "text/plain", "text/plain")
    plan = plan_of([compare], ["text/plain", "text/plain"], "text/plain")
    assert call(plan, "compare").arguments == (("one", Input("text")), ("other", Input("text_2")))


def test_a_member_flows_by_its_name_or_as_an_object_but_not_as_any_text() -> None:
    language = offer("language", {"audio": "audio"}, record(language=STRING))
    speak = offer("speak", {"language": STRING}, "audio")
    read = offer("read", {"text": STRING}, "audio")
    plan = plan_of([language, speak], "audio/wav", "audio/*")
    assert dict(call(plan, "speak").arguments) == {
        "language": Field(Result("language"), "language")
    }
    with pytest.raises(NoPlan):
        plan_of([language, read], "audio/wav", "audio/*")


def test_an_optional_parameter_takes_an_input_of_its_kind_and_is_left_out_otherwise() -> None:
    draw = offer("draw", {"text": "text", "style": "image"}, "video", optional=("style",))
    assert [n for n, _ in call(plan_of([draw], "text/plain", "video/mp4"), "draw").arguments] == [
        "text"
    ]
    both = plan_of([draw], ["text/plain", "image/png"], "video/mp4")
    assert [n for n, _ in call(both, "draw").arguments] == ["text", "style"]


def test_a_stream_of_json_is_a_list_and_one_of_bytes_is_not_used() -> None:
    words = offer("words", {"text": "text"}, STRING, streams=True)
    cloud = offer("cloud", {"texts": many(STRING)}, "image")
    assert plan_of([words, cloud], "text/plain", "image/*").functions == ("words", "cloud")
    film = offer("film", {"text": "text"}, "video", streams=True)
    with pytest.raises(NoPlan):
        plan_of([film], "text/plain", "video/mp4")


def test_json_that_says_nothing_of_itself_flows_only_where_anything_does() -> None:
    anything = offer("anything", {"audio": "audio"}, {})
    strict = offer("strict", {"record": record(a=STRING)}, "image")
    lax = offer("lax", {"value": {}}, "image")
    with pytest.raises(NoPlan):
        plan_of([anything, strict], "audio/wav", "image/*")
    assert plan_of([anything, lax], "audio/wav", "image/*").functions == ("anything", "lax")


def test_json_from_outside_flows_into_any_json_parameter() -> None:
    strict = offer("strict", {"record": record(a=STRING)}, "image")
    assert plan_of([strict], "application/json", "image/*").functions == ("strict",)


def test_an_input_alone_is_no_plan_even_if_it_is_what_is_wanted() -> None:
    with pytest.raises(NoPlan):
        plan_of([CLASSIFY], "text/plain", "text/plain")


def test_types_that_lead_back_to_themselves_end() -> None:
    there = offer("there", {"text": "text"}, "image")
    back = offer("back", {"image": "image"}, "text")
    plan = plan_of([there, back], "text/plain", "text/plain")
    assert plan.functions == ("there", "back")
    with pytest.raises(NoPlan):
        plan_of([there, back], "text/plain", "video/mp4")


# What is best


def test_by_cost_the_cheap_way_is_taken_and_by_latency_the_fast_one() -> None:
    large = offer("large", {"audio": "audio"}, "text", ms=200, nano=9_000)
    small = offer("small", {"audio": "audio"}, "text", ms=900, nano=300)
    by_latency = plan_of([large, small], "audio/wav", "text/plain")
    by_cost = plan_of([large, small], "audio/wav", "text/plain", by="cost")
    assert by_latency.functions == ("large",)
    assert by_cost.functions == ("small",)
    assert by_latency.alternatives[0].functions == ("small",)
    assert "Instead, small would take about 902 ms (4.5 times) and" in " ".join(
        by_latency.explanation
    )


def test_what_runs_side_by_side_counts_as_the_longest_of_it() -> None:
    one = offer("one", {"text": "text"}, record(a=STRING), ms=300)
    other = offer("other", {"text": "text"}, record(b=STRING), ms=500)
    both = offer("both", {"a": record(a=STRING), "b": record(b=STRING)}, "image", ms=100)
    plan = plan_of([one, other, both], "text/plain", "image/*")
    assert plan.latency_us == 600_000 + 2 * STEP_US
    assert plan.cost_nano == 300


def test_a_map_counts_as_eight_items_in_as_many_rounds_as_the_function_has_lanes() -> None:
    words = offer("words", {"text": "text"}, many(STRING))
    draw = offer("draw", {"text": STRING}, "image", ms=100, lanes=3)
    plan = plan_of([words, draw], "text/plain", "image/*[]")
    assert plan.latency_us == (100_000 + STEP_US) + 3 * (100_000 + STEP_US)
    assert plan.cost_nano == 100 + 8 * 100
    assert [step.runs for step in plan.steps] == [1, 8]


def test_cold_starts_and_failures_make_a_function_dearer() -> None:
    cold = Estimate(100_000, 100, 10, cold_share=0.5, restore_us=1_000_000)
    assert cold.expected_us == 600_000
    assert Estimate(100_000, 100, 10, failed_share=0.5).expected_us == 200_000
    assert Estimate(100_000, 100, 10, failed_share=0.5).expected_nano == 200
    assert Estimate(100_000, 100, 0, failed_share=1.0).expected_us == 2_000_000


def test_a_function_that_was_never_measured_counts_as_a_second() -> None:
    known = offer("known", {"audio": "audio"}, "text", ms=900)
    new = Offer("new", known.interface, Estimate(cost_nano=1))
    plan = plan_of([known, new], "audio/wav", "text/plain")
    assert plan.functions == ("known",)
    assert plan_of([new], "audio/wav", "text/plain").functions == ("new",)
    assert "new was not measured" in " ".join(plan_of([new], "audio/wav", "text/plain").explanation)


def test_of_equal_ways_the_one_with_fewer_calls_then_the_first_name_is_taken() -> None:
    b = offer("b", {"text": "text"}, "image", ms=0, nano=0)
    a = offer("a", {"text": "text"}, "image", ms=0, nano=0)
    for offers in itertools.permutations([a, b]):
        assert plan_of(list(offers), "text/plain", "image/png").functions == ("a",)


def test_the_order_of_the_functions_changes_no_plan() -> None:
    offers = [TRANSCRIBE, SUMMARISE, DETECT, CUT, JOIN, CLASSIFY, INDEX]
    plans = {
        str(plan_of(list(order), "audio/wav", "text/plain", want="cut").to_document())
        for order in itertools.islice(itertools.permutations(offers), 0, 5040, 700)
    }
    assert len(plans) == 1


# What is wanted


def test_words_are_met_by_tags_before_names_before_descriptions() -> None:
    tagged = offer("x", {"text": "text"}, "text", tags=("summary",), ms=900)
    named = offer("summary", {"text": "text"}, "text", ms=500)
    told = offer("y", {"text": "text"}, "text", about="Gives a summary.", ms=100)
    assert plan_of([tagged, named, told], "text/plain", "text/plain", "summary").functions == ("x",)
    assert plan_of([named, told], "text/plain", "text/plain", "summary").functions == ("summary",)
    assert plan_of([tagged, named, told], "text/plain", "text/plain").functions == ("y",)


def test_every_wanted_word_is_met_where_that_can_be() -> None:
    translate = offer("translate", {"text": "text"}, "text")
    offers = [TRANSCRIBE, SUMMARISE, translate]
    plan = plan_of(offers, "audio/wav", "text/plain", want="a summary, translated")
    assert sorted(plan.functions) == ["summarise", "transcribe", "translate"]
    assert "'summary' is met by summarise, by its tags." in plan.explanation
    assert plan.alternatives
    assert not any(other.fits for other in plan.alternatives)


def test_of_ways_that_meet_as_much_the_soonest_itself_is_taken() -> None:
    slow = offer("a", {"image": "image"}, "text", tags=("red",), ms=900)
    fast = offer("b", {"image": "image"}, "text", tags=("blue",), ms=500)
    plan = plan_of([slow, fast], "image/png", "text/plain", want="red and blue")
    assert plan.functions == ("b",)
    assert [other.functions for other in plan.alternatives] == [("a",)]


def test_a_word_that_nothing_is_about_is_said_to_be_so() -> None:
    plan = plan_of([TRANSCRIBE], "audio/wav", "text/plain", want="haiku")
    assert "Nothing on the way is about 'haiku'." in plan.explanation


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("label", "labels", True),
        ("summary", "summarise", True),
        ("translate", "translation", True),
        ("transcribe", "translate", False),
        ("speech", "speed", False),
        ("cat", "category", False),
        ("cat", "cat", True),
    ],
)
def test_forms_of_a_word_are_alike(one: str, other: str, same: bool) -> None:
    assert alike(one, other) is same
    assert alike(other, one) is same


def test_words_without_meaning_and_beyond_eight_are_left_out() -> None:
    assert words_of("The summary of a text, the SUMMARY") == ("summary", "text")
    assert len(words_of(" ".join(f"w{i}" for i in range(20)))) == 8


# No plan


def test_no_plan_says_what_is_reached_and_what_is_missing() -> None:
    paint = offer("paint", {"sketch": "image", "style": "text"}, "video")
    with pytest.raises(NoPlan) as caught:
        plan_of([TRANSCRIBE, paint], "audio/wav", "video/mp4")
    message = caught.value.message
    assert "No deployed functions lead from audio/wav to video/mp4." in message
    assert "The inputs lead to a JSON string, by transcribe." in message
    assert "video/mp4 comes from paint; paint needs 'sketch' (image/*)." in message
    assert caught.value.fields["reachable"] == ["transcribe"]
    assert caught.value.fields["giving"] == ["paint"]


def test_no_plan_says_which_input_nothing_takes() -> None:
    with pytest.raises(NoPlan) as caught:
        plan_of([TRANSCRIBE], ["audio/wav", "image/png"], "text/plain")
    assert "No function takes image." in caught.value.message
    assert caught.value.fields["unused"] == ["image"]


def test_no_plan_without_any_function_that_gives_it() -> None:
    with pytest.raises(NoPlan, match="No function gives video/mp4"):
        plan_of([TRANSCRIBE], "audio/wav", "video/mp4")


def test_inputs_that_cannot_all_be_used_are_no_plan() -> None:
    with pytest.raises(NoPlan, match="No plan uses every input"):
        plan_of([TRANSCRIBE, SUMMARISE], ["audio/wav", "text/plain"], "text/plain")


def test_more_calls_than_a_plan_may_have_are_no_plan() -> None:
    chain = [
        offer(f"f{i}", {"x": record(**{f"m{i}": STRING})}, record(**{f"m{i + 1}": STRING}))
        for i in range(9)
    ]
    start = offer("start", {"text": "text"}, record(m0=STRING))
    end = offer("end", {"x": record(m7=STRING)}, "image")
    with pytest.raises(NoPlan):
        plan_of([start, *chain, end], "text/plain", "image/*")
    end = offer("end", {"x": record(m6=STRING)}, "image")
    assert len(plan_of([start, *chain, end], "text/plain", "image/*").steps) == 8


# Requests


@pytest.mark.parametrize(
    ("inputs", "output", "want", "by", "field"),
    [
        ([], "text/plain", "", "cost", "inputs"),
        (["text/plain"] * 9, "text/plain", "", "cost", "inputs"),
        (["audio"], "text/plain", "", "cost", "inputs"),
        (["*/*"], "text/plain", "", "cost", "inputs"),
        (["1a=text/plain"], "text/plain", "", "cost", "inputs"),
        (["a=text/plain", "a=text/plain"], "text/plain", "", "cost", "inputs"),
        (["text/plain"], "text", "", "cost", "output"),
        (["text/plain"], "text/plain", "w" * 201, "cost", "want"),
        (["text/plain"], "text/plain", "", "fun", "optimise"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_the_field_named(
    inputs: list[str], output: str, want: str, by: str, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        request_of(inputs, output, want, by)
    assert caught.value.fields["field"] == field


def test_inputs_are_called_after_their_kind_unless_they_are_named() -> None:
    request = request_of(["image/*", "voice=audio/wav", "image/png", "application/pdf[]"], "a/b")
    assert {n: str(f) for n, f in request.inputs.items()} == {
        "image": "image/*",
        "voice": "audio/wav",
        "image_2": "image/png",
        "file": "application/pdf[]",
    }


def test_a_plan_can_choose_from_a_limited_number_of_functions() -> None:
    offers = [offer(f"f{i}", {"text": "text"}, "text") for i in range(MAX_OFFERS + 1)]
    with pytest.raises(InvalidInput, match=str(MAX_OFFERS)):
        plan_of(offers, "text/plain", "text/plain")


# Plans as values


def test_a_plan_without_a_name_is_called_after_what_it_does() -> None:
    one = plan_of([TRANSCRIBE], "audio/wav", "text/plain")
    again = plan_of([offer("transcribe", {"audio": "audio"}, STRING, ms=7)], "audio/wav", "text/*")
    other = plan_of([TRANSCRIBE], "voice=audio/wav", "text/plain")
    assert one.dag.name.startswith("auto-")
    assert len({one.dag.name, other.dag.name}) == 2
    assert again.dag.steps == one.dag.steps
    named = make_plan(request_of(["audio/wav"], "text/plain"), [TRANSCRIBE], "mine")
    assert named.dag.name == "mine"


def test_a_plan_is_read_back_from_its_document() -> None:
    plan = plan_of([DETECT, CUT, TRANSCRIBE, JOIN, SUMMARISE], "audio/wav", "text/plain", "cut")
    assert Plan.from_document(plan.to_document()) == plan


@dsfn.function(tags=["speech"])
def listen(audio: dsfn.Audio) -> str:
    """Writes down what is said."""
    raise NotImplementedError


@dsfn.function(name="shorten", gpu=1)
def shorter(text: dsfn.Text) -> dsfn.Text:
    """Gives a summary."""
    raise NotImplementedError


def test_python_plans_over_functions_at_hand() -> None:
    found = dsfn.plan(
        input="audio/wav", output="text/plain", want="summary", functions=[listen, shorter]
    )
    assert found.functions == ("listen", "shorten")
    assert str(found) == "\n".join(found.explanation)
    assert found.steps[1].estimate.cost_nano > found.steps[0].estimate.cost_nano
    named = dsfn.plan(input={"voice": "audio/wav"}, output="text/plain", functions=[listen])
    assert [one.name for one in named.dag.inputs] == ["voice"]
    with pytest.raises(UsageError):
        dsfn.plan(input="audio/wav", output="text/plain", functions=[listen], save="mine")


# Limits


def search(
    offers: list[Offer],
    inputs: list[str],
    output: str,
    want: str = "",
    max_states: int = MAX_STATES,
) -> Any:
    catalogue = catalogue_of(request_of(inputs, output, want), offers)
    return Search(catalogue, bounds_of(catalogue), max_states, max_s=60.0).run()


def test_of_500_functions_alike_few_states_are_looked_at() -> None:
    offers = [offer(f"f{i}", {"text": "text"}, "text", ms=i + 1, nano=i) for i in range(500)]
    outcome = search(offers, ["text/plain"], "text/plain")
    assert outcome.complete
    assert outcome.states < 100


def test_500_functions_on_a_long_way_are_looked_at_within_the_limit() -> None:
    def typed(i: int) -> dict[str, Any]:
        return record(**{f"m{i}": STRING})

    way = [offer(f"way{i}", {"x": typed(i)}, typed(i + 1), ms=1 + i % 3) for i in range(6)]
    aside = [
        offer(f"f{i}", {"x": typed(i * 7 % 41)}, typed(i * 11 % 43), ms=1 + i % 97, nano=i % 89)
        for i in range(490)
    ]
    start, end = offer("start", {"text": "text"}, typed(0)), offer("end", {"x": typed(6)}, "image")
    outcome = search([*way, *aside, start, end], ["text/plain"], "image/*")
    assert outcome.complete
    assert outcome.goals
    assert outcome.states < MAX_STATES


def test_a_search_without_end_stops_at_its_limit_and_says_so() -> None:
    words = [f"w{i}" for i in range(4)]
    lists = [offer(f"l{i}", {"p": STRING}, many(STRING), ms=i * 37 % 101) for i in range(60)]
    joins = [offer(f"m{i}", {"p": many(STRING)}, STRING, ms=i * 53 % 103) for i in range(60)]
    about = [offer(w, {"p": STRING, "q": many(STRING)}, STRING, ms=500) for w in words]
    request = request_of(["text/plain"], "text/plain[]", " ".join(words))
    plan = make_plan(request, [*lists, *joins, *about], max_states=2_000)
    assert not plan.complete
    assert "There were too many ways to look at all" in plan.explanation[-1]


def cheap_texts() -> list[Offer]:
    """Functions between texts, lists of them and numbers, all of them known to be fast."""
    found = [
        offer("sentences", {"text": "text"}, many(STRING), ms=5),
        offer("length", {"text": "text"}, INTEGER, ms=2),
        offer("huge", {"size": INTEGER}, "text", ms=3),
    ]
    for i in range(9):
        found += [
            offer(f"edit{i}", {"text": STRING}, STRING, ms=4 + i, nano=90 - i),
            offer(f"measure{i}", {"text": "text"}, INTEGER, ms=3 + i, nano=80 - i),
            offer(f"parts{i}", {"text": "text"}, many(STRING), ms=6 + i, nano=70 - i),
            offer(f"merge{i}", {"texts": many(STRING)}, "text", ms=5 + i, nano=60 - i),
        ]
    return found


BARS = offer("bars", {"counts": many(INTEGER)}, "text", tags=("chart",), ms=1_000, calls=0)


def test_what_is_wanted_is_found_among_many_calls_that_are_cheaper() -> None:
    outcome = search([*cheap_texts(), BARS], ["text/plain"], "text/plain", "a chart", 2_000)
    assert not outcome.complete
    assert outcome.states < 2_700
    assert outcome.goals[0].weights == (TAG,)
    request = request_of(["text/plain"], "text/plain", "a chart")
    plan = make_plan(request, [*cheap_texts(), BARS], max_states=2_000)
    assert plan.functions == ("sentences", "length", "bars")
    assert "'chart' is met by bars, by its tags." in plan.explanation
    assert "There were too many ways to look at all" in plan.explanation[-1]


def test_all_words_are_met_among_many_calls_that_are_cheaper() -> None:
    about = [
        offer("heading", {"text": "text"}, record(title=STRING), tags=("title",), ms=1_000),
        offer("titled", {"text": "text", "head": record(title=STRING)}, "text", ms=1_000),
        offer("spanish", {"text": STRING}, STRING, tags=("translate",), ms=1_000),
    ]
    request = request_of(["text/plain"], "text/plain", "chart with a title, translated")
    plan = make_plan(request, [*cheap_texts(), *about, BARS], max_states=5_000)
    assert not plan.complete
    assert {"bars", "heading", "titled", "spanish"} < set(plan.functions)


def test_a_word_that_the_search_did_not_come_to_is_not_said_to_be_unknown() -> None:
    far = [
        offer(f"f{i}", {"x": record(**{f"m{i}": STRING})}, record(**{f"m{i + 1}": STRING}), ms=1)
        for i in range(8)
    ]
    start = offer("start", {"text": "text"}, record(m0=STRING), ms=1)
    end = offer("end", {"x": record(m8=STRING)}, "text", tags=("chart",), ms=1)
    request = request_of(["text/plain"], "text/plain", "a chart in haiku")
    plan = make_plan(request, [*cheap_texts(), start, *far, end], max_states=2_000)
    assert not plan.complete
    told = " ".join(plan.explanation)
    assert "'chart' is not met: end is about it, but no way by it was found before" in told
    assert "Nothing on the way is about 'chart'" not in told
    assert "Nothing on the way is about 'haiku'." in told


def test_a_search_that_was_cut_off_does_not_say_that_no_functions_lead_there() -> None:
    request = request_of(["text/plain"], "text/plain", "a chart")
    with pytest.raises(NoPlan) as caught:
        make_plan(request, [*cheap_texts(), BARS], max_states=200)
    assert (
        "No way from text/plain to text/plain was found before the search ended at its limit."
        in (caught.value.message)
    )
    assert "No deployed functions lead" not in caught.value.message


def test_eight_inputs_alike_do_not_multiply() -> None:
    wide = offer("wide", {f"p{i}": "text" for i in range(8)}, "text")
    plain_ones = [offer(f"t{i}", {"text": "text"}, "text", ms=1) for i in range(50)]
    plan = plan_of([wide, *plain_ones], ["text/plain"] * 8, "text/plain")
    assert plan.functions[-1] == "wide" or "wide" in plan.functions
    assert plan.complete


def test_a_schema_that_repeats_itself_is_read_to_an_end() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/T"}}}
    assert plain({"$ref": "#/$defs/T", "$defs": {"T": tree}}) == {
        "type": "object",
        "properties": {"left": {}},
    }
    names = [f"D{i}" for i in range(8)]
    wide = {
        name: {"anyOf": [{"$ref": f"#/$defs/{after}"}] * 10}
        for name, after in itertools.pairwise(names)
    }
    read = plain({"$ref": "#/$defs/D0", "$defs": {**wide, "D7": STRING}})
    assert str(read).count("{") < 20 * MAX_PLACES


def test_titles_and_descriptions_make_no_difference_but_members_of_that_name_do() -> None:
    assert plain({"type": "object", "title": "A", "properties": {"title": {"title": "Title"}}}) == {
        "type": "object",
        "properties": {"title": {}},
    }


@pytest.mark.parametrize(
    ("source", "target", "sure"),
    [
        (record(a=STRING, b=STRING), record(a=STRING), True),
        (record(a=STRING), record(a=STRING, b=STRING), False),
        ({"type": "object", "properties": {"a": STRING}}, record(a=STRING), False),
        ({"anyOf": [STRING, {"type": "null"}]}, STRING, False),
        (STRING, {"anyOf": [STRING, {"type": "null"}]}, True),
        ({"type": "integer"}, NUMBER, True),
        (NUMBER, {"type": "integer"}, False),
        (many(record(a=STRING)), many(record(a=NUMBER)), False),
        ({}, STRING, False),
        (STRING, {}, True),
    ],
)
def test_a_plan_counts_on_what_a_schema_promises_alone(
    source: dict[str, Any], target: dict[str, Any], sure: bool
) -> None:
    assert promises(source, target) is sure


# Against brute force

KINDS = ("text", "image", "audio", "video")


@st.composite
def catalogues(draw: st.DrawFn) -> list[Offer]:
    shapes = draw(st.lists(st.tuples(*[st.sampled_from(KINDS)] * 2), min_size=1, max_size=7))
    joins = draw(st.lists(st.tuples(*[st.sampled_from(KINDS)] * 3), max_size=2))
    numbers = st.integers(0, 9)
    chain = [
        offer(f"f{i}", {"x": takes}, gives, ms=draw(numbers), nano=draw(numbers))
        for i, (takes, gives) in enumerate(shapes)
    ]
    return chain + [
        offer(f"j{i}", {"x": one, "y": other}, gives, ms=draw(numbers), nano=draw(numbers))
        for i, (one, other, gives) in enumerate(joins)
    ]


def chains(offers: list[Offer], source: str, target: str) -> list[tuple[Offer, ...]]:
    """Every chain of functions with one parameter, none of them twice."""
    found: list[tuple[Offer, ...]] = []
    single = [o for o in offers if len(o.interface.parameters) == 1]
    for length in range(1, len(single) + 1):
        for chain in itertools.permutations(single, length):
            kinds = [source, *(o.interface.result.kind for o in chain)]
            takes = [o.interface.parameters[0].kind for o in chain]
            if takes == kinds[:-1] and kinds[-1] == target:
                found.append(chain)
    return found


@settings(max_examples=150, deadline=None)
@given(catalogues(), st.sampled_from(KINDS), st.sampled_from(KINDS), st.booleans())
def test_no_chain_is_better_than_the_plan(
    offers: list[Offer], source: str, target: str, by_cost: bool
) -> None:
    possible = chains(offers, source, target)
    by = "cost" if by_cost else "latency"
    try:
        plan = plan_of(offers, f"{source}/*", f"{target}/*", by=by)
    except NoPlan:
        assert not possible
        return
    assert plan.complete
    by_name = {o.name: o for o in offers}
    assert plan.cost_nano == sum(by_name[f].estimate.cost_nano for f in plan.functions)
    for chain in possible:
        latency_us = sum(o.estimate.held_us + STEP_US for o in chain)
        cost_nano = sum(o.estimate.cost_nano for o in chain)
        best, other = (latency_us, cost_nano), (plan.latency_us, plan.cost_nano)
        assert (other[::-1] <= best[::-1]) if by_cost else (other <= best)
