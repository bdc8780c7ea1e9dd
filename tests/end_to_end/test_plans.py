"""Plans of a node: made of what is deployed, by what was measured, saved and run."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from deadlines import eventually
from live_node import APPS, LiveNode, StartNode, start_node

import dsfn
from dsfn.functions.errors import NoPlan, Unavailable

# A film is not looked into, but for these first bytes.
FILM = b"0000ftypabcd"


@pytest.fixture(scope="module")
def planning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """A node with functions to plan with, and no others. What was never measured counts as a
    second, so that ways that were would be taken whatever they are: the plain one is."""
    node = start_node(tmp_path_factory.mktemp("planning"), libraries=(), cancel_grace_s=0.5)
    try:
        node.deploy(APPS / "planned.py")
        answer = node.http.post(
            "/functions/transcribe", content=FILM, headers={"content-type": "video/mp4"}
        )
        assert answer.status_code == 200, answer.text
        yield node
        assert node.stop() == 0, node.log
    finally:
        node.end()


def plan(node: LiveNode, **asked: Any) -> httpx.Response:
    return node.http.post("/plans", json=asked)


def auto(node: LiveNode, body: bytes, kind: str, query: str, **headers: str) -> httpx.Response:
    return node.http.post(f"/auto?{query}", content=body, headers={"content-type": kind, **headers})


def sound() -> bytes:
    """A tenth of a second of silence."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, 8000, 800, "NONE", ""))
        file.writeframes(bytes(1600))
    return written.getvalue()


def test_a_plan_says_what_it_is_made_of_and_why(planning: LiveNode) -> None:
    assert planning.call("shorten", text="a long text").status_code == 200
    answer = plan(planning, inputs=["video/mp4"], output="text/plain", want="transcribe, a summary")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert [step["function"] for step in document["steps"]] == ["transcribe", "shorten"]
    shorten = document["steps"][1]
    assert shorten["estimate"]["calls"] >= 1
    assert shorten["revision"] == planning.describe("shorten")["revision"]
    assert "'summary' is met by shorten, by its tags." in document["explanation"]
    assert document["cost"]["amount_nano"] > 0
    assert document["saved"] is None


def test_what_was_measured_decides(planning: LiveNode) -> None:
    before = plan(planning, inputs=["text/plain"], output="text/plain").json()
    for _ in range(3):
        assert planning.call("shorten", text="a long text").status_code == 200
    after = plan(planning, inputs=["text/plain"], output="text/plain").json()
    calls = [one["steps"][0]["estimate"]["calls"] for one in (before, after)]
    assert calls[1] >= calls[0] + 3 or calls[1] == 100
    held = sorted(row.held_us for row in planning.rows("shorten") if not row.restore_us)
    assert held[0] <= after["steps"][0]["estimate"]["held_us"] <= held[-1]


def test_a_saved_plan_is_a_workflow_that_runs(planning: LiveNode) -> None:
    answer = plan(
        planning, inputs=["film=video/mp4"], output="text/plain", want="cut", save="by-stretches"
    )
    assert answer.json()["saved"]["name"] == "by-stretches"
    assert answer.json()["saved"]["revision"].startswith("by-stretches-")
    result = planning.http.post(
        "/workflows/by-stretches", content=FILM, headers={"content-type": "video/mp4"}
    )
    assert result.status_code == 200, result.text
    assert result.text == "0000ft\nypabcd"
    assert result.headers["content-type"].startswith("text/plain")
    run = planning.http.get(result.headers["location"]).json()
    assert run["state"] == "succeeded"
    assert sorted({step["function"] for step in run["steps"]}) == ["cut", "detect", "gather-lines"]


def test_auto_plans_and_runs_and_says_how(planning: LiveNode) -> None:
    answer = auto(planning, FILM, "video/mp4", "want=transcribe+summary", accept="text/plain")
    assert answer.status_code == 200, answer.text
    assert answer.text == "0000"
    assert answer.headers["dsfn-plan"] == "transcribe -> shorten"
    run = planning.http.get(answer.headers["location"]).json()
    assert run["workflow"].startswith("auto-")
    assert int(answer.headers["dsfn-cost-nano"]) == run["cost"]["amount_nano"] > 0


def test_auto_gives_a_json_string_as_the_text_that_was_wanted(planning: LiveNode) -> None:
    answer = auto(planning, FILM, "video/mp4", "output=text/plain&want=transcribe")
    assert answer.headers["dsfn-plan"] == "transcribe"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == FILM.decode()


def test_auto_takes_several_inputs_as_a_form(planning: LiveNode) -> None:
    form = {"context": (None, "is blue"), "question": (None, "The sky")}
    answer = planning.http.post("/auto?output=application/json", files=form)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"answer": "The sky is blue"}


def test_auto_takes_a_list_as_a_field_that_comes_again(planning: LiveNode) -> None:
    form = [
        ("films", ("a.mp4", b"1000ftyp", "video/mp4")),
        ("films", ("b.mp4", b"2000ftyp", "video/mp4")),
    ]
    answer = planning.http.post("/auto?output=text/plain[]&want=transcribe", files=form)
    assert answer.status_code == 200, answer.text
    assert answer.json() == ["1000ftyp", "2000ftyp"]


def test_auto_takes_json_as_it_is(planning: LiveNode) -> None:
    answer = auto(planning, b'{"a": 1}', "application/json", "output=image/png")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.endswith(b"[('a', 1)]")


def test_auto_finds_out_what_a_body_without_a_content_type_is(planning: LiveNode) -> None:
    answer = planning.http.post("/auto?output=text/plain&want=transcribe", content=FILM)
    assert answer.text == FILM.decode()


def test_auto_answers_at_once_when_asked_to(planning: LiveNode) -> None:
    answer = auto(planning, FILM, "video/mp4", "output=text/plain", prefer="respond-async")
    assert answer.status_code == 202
    assert answer.headers["dsfn-plan"]
    where = answer.headers["location"]
    eventually(lambda: planning.http.get(where).json()["state"] == "succeeded", "the run to end")


def test_auto_tells_how_the_run_goes_when_asked_to(planning: LiveNode) -> None:
    answer = auto(planning, FILM, "video/mp4", "output=text/plain", accept="text/event-stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["dsfn-plan"]
    assert answer.text.rstrip().splitlines()[-2] == "event: result"


def test_auto_runs_once_for_a_key_whatever_is_best_by_then(planning: LiveNode) -> None:
    first = auto(planning, FILM, "video/mp4", "output=text/plain", **{"idempotency-key": "k1"})
    again = auto(
        planning, FILM, "video/mp4", "output=text/plain&want=cut", **{"idempotency-key": "k1"}
    )
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["dsfn-replayed"] == "true"
    assert again.text == first.text


def test_the_same_plan_is_the_same_workflow(planning: LiveNode) -> None:
    revisions = {
        auto(planning, FILM, "video/mp4", "output=text/plain&want=transcribe+summary").headers[
            "dsfn-revision"
        ]
        for _ in range(3)
    }
    assert len(revisions) == 1


def test_a_step_that_fails_fails_the_request_with_its_error(planning: LiveNode) -> None:
    answer = auto(planning, sound(), "audio/wav", "output=text/plain")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["step"] == "fail"
    assert answer.headers["dsfn-plan"] == "fail"


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "words"),
    [
        (FILM, "video/mp4", "", 422, "Say what is wanted"),
        (FILM, "video/mp4", "output=video/webm", 422, "No function gives video/webm"),
        (FILM, "video/mp4", "output=text/plain&optimise=fun", 422, "latency"),
        (FILM, "video/mp4", "output=text/plain&wish=x", 422, "wish"),
        (b"", "video/mp4", "output=text/plain", 422, "empty"),
        (b'{"a": 1', "application/json", "output=image/png", 400, "not JSON"),
        (b'1, "json": 2', "application/json", "output=image/png", 400, "not JSON"),
    ],
)
def test_what_makes_no_sense_is_refused(
    planning: LiveNode, body: bytes, kind: str, query: str, status: int, words: str
) -> None:
    answer = auto(planning, body, kind, query)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "inputs"),
        ({"inputs": "video/mp4", "output": "text/plain"}, "inputs"),
        ({"inputs": ["video/mp4"]}, "output"),
        ({"inputs": ["video/mp4"], "output": "text/plain", "want": 1}, "want"),
        ({"inputs": ["video/mp4"], "output": "text/plain", "how": "x"}, "how"),
    ],
)
def test_a_body_that_asks_for_no_plan_is_refused_and_the_field_named(
    planning: LiveNode, asked: dict[str, Any], field: str
) -> None:
    answer = plan(planning, **asked)
    assert answer.status_code == 422
    assert answer.json()["field"] == field


def test_a_plan_cannot_be_saved_under_the_name_of_a_function(planning: LiveNode) -> None:
    answer = plan(planning, inputs=["video/mp4"], output="text/plain", save="shorten")
    assert answer.status_code == 422
    assert "is the name of a function" in answer.json()["detail"]


def test_python_plans_on_a_node(planning: LiveNode) -> None:
    found = dsfn.plan(
        input={"film": "video/mp4"},
        output="text/plain",
        want="transcribe, a summary",
        save="from-python",
        url=planning.url,
    )
    assert found.functions == ("transcribe", "shorten")
    assert planning.http.get("/workflows/from-python").status_code == 200
    with pytest.raises(NoPlan):
        dsfn.plan(input="video/mp4", output="video/webm", url=planning.url)
    with pytest.raises(Unavailable):
        dsfn.plan(input="video/mp4", output="video/webm", url="http://127.0.0.1:9")


def test_plans_that_nobody_named_are_kept_up_to_a_number(start: StartNode) -> None:
    node = start(libraries=())
    node.deploy(APPS / "planned.py")
    first = node.http.post("/auto?output=text/plain", files={"first": (None, "text")})
    for number in range(70):
        answer = node.http.post("/auto?output=text/plain", files={f"n{number}": (None, "text")})
        assert answer.status_code == 200, answer.text
    names = [one["name"] for one in node.http.get("/workflows").json()["workflows"]]
    assert len([name for name in names if name.startswith("auto-")]) == 64
    run = node.http.get(first.headers["location"]).json()
    assert run["workflow"] not in names
    assert run["state"] == "succeeded"
    assert json.dumps(run["output"]) == '"text"'
