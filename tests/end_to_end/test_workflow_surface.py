"""Workflows as a client sees them: results, runs, progress, pictures, second chances."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from deadlines import eventually
from live_node import APPS, LiveNode, StartNode

Document = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def deployed(node: LiveNode) -> None:
    node.deploy(APPS / "flows.py")


def post(
    node: LiveNode, workflow: str, body: object, headers: dict[str, str] | None = None
) -> httpx.Response:
    return node.http.post(f"/workflows/{workflow}", json=body, headers=headers)


def started(node: LiveNode, workflow: str, body: object) -> str:
    """The id of a run that nobody waits for."""
    answer = post(node, workflow, body, {"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/runs/{answer.json()['id']}"
    return str(answer.json()["id"])


def run(node: LiveNode, id: str, **params: int) -> Document:
    answer = node.http.get(f"/runs/{id}", params=params)
    assert answer.status_code == 200, answer.text
    document: Document = answer.json()
    return document


def ended(node: LiveNode, id: str) -> Document:
    """The run once it has ended."""
    return eventually(
        lambda: found if (found := run(node, id))["state"] != "running" else None,
        f"run {id} to end",
    )


def failed_run(node: LiveNode, folder: Path) -> str:
    """A run that broke at its second item of three."""
    id_ = started(node, "doubled", {"folder": str(folder), "numbers": [1, 13, 3]})
    assert ended(node, id_)["state"] == "failed"
    return id_


def events_of(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The names and data of server-sent events."""
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


# Results.


def test_a_workflow_answers_with_its_result_alone_and_tells_of_its_run(node: LiveNode) -> None:
    answer = post(node, "count-letters", {"lines": ["one", "three", "five"]})
    assert (answer.status_code, answer.json()) == (200, 12)
    headers = answer.headers
    assert headers["content-type"] == "application/json"
    assert headers["location"] == f"/runs/{headers['dsfn-run-id']}"
    document = run(node, headers["dsfn-run-id"])
    assert (document["state"], document["output"]) == ("succeeded", 12)
    assert document["revision"] == headers["dsfn-revision"]
    assert document["cost"]["amount_nano"] == int(headers["dsfn-cost-nano"]) > 0
    assert document["held_us"] == int(headers["dsfn-held-us"])
    assert [(s["id"], s["item"]) for s in document["steps"]] == [
        ("length", 0),
        ("length", 1),
        ("length", 2),
        ("total", None),
    ]
    assert {s["state"] for s in document["steps"]} == {"succeeded"}
    spent = sum(step["cost"]["amount_nano"] for step in document["steps"])
    assert spent == document["cost"]["amount_nano"]


def test_a_text_goes_in_and_comes_out_as_it_does_of_a_function(node: LiveNode) -> None:
    url, body = "/workflows/cry", b"hello"
    answer = node.http.post(url, content=body, headers={"Content-Type": "text/plain"})
    assert (answer.text, answer.headers["content-type"].partition(";")[0]) == (
        "HELLO",
        "text/plain",
    )
    as_json = {"Content-Type": "text/plain", "Accept": "application/json"}
    assert node.http.post(url, content=body, headers=as_json).json() == "HELLO"


@pytest.mark.parametrize("end", [0, 3, 30_000])
def test_a_stream_goes_on_to_the_next_step_as_one_value(node: LiveNode, end: int) -> None:
    answer = post(node, "streamed", {"end": end, "text": "one two"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "sum": sum(range(end)),
        "squares": [0, 1, 4],
        "text": "ONE\nTWO\n",
    }


def test_a_large_picture_is_the_answer_and_a_reference_in_the_document(node: LiveNode) -> None:
    answer = post(node, "draw", {"side": 4000})
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    id_ = answer.headers["dsfn-run-id"]
    output = node.http.get(f"/runs/{id_}/output")
    assert output.content == answer.content
    assert output.headers["content-type"] == "image/png"
    shown = run(node, id_)["output"]
    if "$ref" in shown:
        digest = shown["$ref"].rpartition(":")[2]
        assert node.http.get(f"/blobs/{digest}").content == answer.content
    assert shown["content_type"] == "image/png"


def test_an_event_starts_one_run_and_is_answered_with_an_event(node: LiveNode) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "surface-1",
        "ce-source": "/test",
        "ce-type": "lines",
        "Content-Type": "application/json",
    }
    answers = [
        node.http.post("/workflows/count-letters", content=b'{"lines": ["ab"]}', headers=headers)
        for _ in range(2)
    ]
    first, again = answers
    assert (first.status_code, first.json()) == (200, 2)
    assert first.headers["ce-type"] == "dev.dsfn.run.succeeded"
    assert first.headers["ce-source"] == first.headers["location"]
    assert first.headers["ce-causationid"] == "surface-1"
    assert again.headers["dsfn-run-id"] == first.headers["dsfn-run-id"]
    assert again.headers["dsfn-replayed"] == "true"


def test_what_does_not_fit_the_inputs_is_refused_and_starts_nothing(node: LiveNode) -> None:
    before = node.http.get("/runs").json()["runs"]
    answer = post(node, "count-letters", {"lines": ["a", 5]})
    assert answer.status_code == 422
    assert answer.json()["field"].startswith("lines")
    assert "location" not in answer.headers
    assert node.http.get("/runs").json()["runs"] == before
    assert post(node, "nobody", {}).status_code == 404


def test_a_run_that_fails_answers_with_the_error_of_its_step(
    node: LiveNode, tmp_path: Path
) -> None:
    answer = post(node, "doubled", {"folder": str(tmp_path), "numbers": [1, 13, 3]})
    problem = answer.json()
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"].endswith("/handler-raised")
    assert "13 is unlucky" in problem["detail"]
    assert (problem["step"], problem["item"]) == ("fragile", 1)
    assert answer.headers["location"] == f"/runs/{problem['run']}"
    assert int(answer.headers["dsfn-cost-nano"]) > 0
    document = run(node, problem["run"])
    assert document["state"] == "failed"
    assert document["error"]["detail"] == problem["detail"]
    states = {s["item"]: s["state"] for s in document["steps"] if s["id"] == "fragile"}
    assert (states[0], states[1]) == ("succeeded", "failed")
    output = node.http.get(f"/runs/{problem['run']}/output")
    assert (output.status_code, output.json()["detail"]) == (500, problem["detail"])


# Not waiting, repeating, going away.


def test_a_run_that_nobody_waits_for_is_found_where_the_answer_says(
    node: LiveNode, tmp_path: Path
) -> None:
    id_ = started(node, "siesta", {"folder": str(tmp_path), "seconds": 0.3})
    early = node.http.get(f"/runs/{id_}/output")
    assert early.status_code == 409
    assert ended(node, id_)["state"] == "succeeded"
    assert node.http.get(f"/runs/{id_}/output").json() == str(tmp_path)


def test_the_same_key_is_the_same_run_and_other_inputs_are_refused(node: LiveNode) -> None:
    key = {"Idempotency-Key": "surface-key"}
    first = post(node, "count-letters", {"lines": ["abc"]}, key)
    again = post(node, "count-letters", {"lines": ["abc"]}, key)
    later = post(node, "count-letters", {"lines": ["abc"]}, {**key, "Prefer": "respond-async"})
    assert first.json() == again.json() == 3
    assert "dsfn-replayed" not in first.headers
    assert again.headers["dsfn-replayed"] == "true"
    ids = {answer.headers["dsfn-run-id"] for answer in (first, again, later)}
    assert len(ids) == 1
    other = post(node, "count-letters", {"lines": ["abcd"]}, key)
    assert (other.status_code, other.json()["type"].rpartition("/")[2]) == (
        422,
        "idempotency-mismatch",
    )


def test_a_run_goes_on_when_its_client_goes_away(node: LiveNode, tmp_path: Path) -> None:
    body = {"folder": str(tmp_path), "seconds": 0.5}
    with pytest.raises(httpx.ReadTimeout):
        node.http.post("/workflows/siesta", json=body, timeout=0.3)
    eventually(lambda: (tmp_path / "second.done").exists(), "the second nap")
    (found,) = node.http.get("/runs", params={"workflow": "siesta", "limit": 1}).json()["runs"]
    assert ended(node, found["id"])["output"] == str(tmp_path)


# Watching.


def test_progress_comes_as_server_sent_events_and_at_last_the_result(node: LiveNode) -> None:
    with node.http.stream(
        "POST",
        "/workflows/count-letters",
        json={"lines": ["one", "two"]},
        headers={"Accept": "text/event-stream"},
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["location"].startswith("/runs/")
        found = list(events_of(answer))
    names = [name for name, _ in found]
    assert names[0] == "run" and names[-2:] == ["run", "result"]
    assert found[-1] == ("result", 6)
    assert found[-2][1]["state"] == "succeeded"
    done = {
        (data["id"], data["item"])
        for name, data in found
        if name == "step" and data["state"] == "succeeded"
    }
    early = {(s["id"], s["item"]) for s in found[0][1]["steps"] if s["state"] == "succeeded"}
    assert done | early == {("length", 0), ("length", 1), ("total", None)}


def test_a_stream_of_a_run_that_fails_ends_with_its_error(node: LiveNode, tmp_path: Path) -> None:
    with node.http.stream(
        "POST",
        "/workflows/doubled",
        json={"folder": str(tmp_path), "numbers": [13]},
        headers={"Accept": "text/event-stream"},
    ) as answer:
        name, problem = list(events_of(answer))[-1]
    assert (name, problem["step"], problem["item"]) == ("error", "fragile", 0)


def test_the_events_of_a_run_begin_with_where_it_is_and_end_with_it(
    node: LiveNode, tmp_path: Path
) -> None:
    id_ = started(node, "siesta", {"folder": str(tmp_path), "seconds": 0.6})
    eventually(lambda: (tmp_path / "first.begun").exists(), "the first nap")
    with node.http.stream("GET", f"/runs/{id_}/events") as answer:
        found = list(events_of(answer))
    assert (found[0][0], found[0][1]["state"]) == ("run", "running")
    assert (found[-1][0], found[-1][1]["state"]) == ("run", "succeeded")
    told = [(data["id"], data["state"]) for name, data in found if name == "step"]
    assert ("nap-2", "succeeded") in told or ("nap", "succeeded") in told
    with node.http.stream("GET", f"/runs/{id_}/events") as answer:
        assert [name for name, _ in events_of(answer)] == ["run"]


def test_a_run_knows_what_its_calls_printed_and_not_what_others_did(node: LiveNode) -> None:
    mine = post(node, "count-letters", {"lines": ["mine-0", "mine-1"]}).headers["dsfn-run-id"]
    post(node, "count-letters", {"lines": ["theirs"]})

    def lines() -> list[Document]:
        text = node.http.get(f"/runs/{mine}/logs").text
        return [json.loads(line) for line in text.splitlines()]

    found = eventually(lambda: lines() if len(lines()) == 2 else None, "the lines of two calls")
    told = {(line["step"], line["item"], line["text"]) for line in found}
    assert told == {("length", 0, "measuring mine-0"), ("length", 1, "measuring mine-1")}


def test_logs_are_followed_until_the_run_has_ended(node: LiveNode) -> None:
    id_ = started(node, "count-letters", {"lines": ["followed"]})
    with node.http.stream("GET", f"/runs/{id_}/logs", params={"follow": "true"}) as answer:
        found = [json.loads(line)["text"] for line in answer.iter_lines() if line]
    assert found == ["measuring followed"]


# Lists and pictures.


def test_workflows_are_listed_described_and_drawn(node: LiveNode) -> None:
    listed = {w["name"]: w for w in node.http.get("/workflows").json()["workflows"]}
    assert {"count-letters", "cry", "draw", "siesta", "doubled"} <= set(listed)
    described = node.http.get("/workflows/count-letters").json()
    assert described["revision"] == listed["count-letters"]["revision"]
    assert described["inputs"][0]["name"] == "lines"
    assert described["functions"] == ["length", "total"]
    assert described["dag"]["options"]["name"] == "count-letters"
    svg = node.http.get("/workflows/count-letters/graph")
    assert svg.headers["content-type"].startswith("image/svg+xml")
    ElementTree.fromstring(svg.text)
    mermaid = node.http.get("/workflows/count-letters/graph", params={"format": "mermaid"})
    assert mermaid.text.startswith("flowchart TD\n")
    assert node.http.get("/workflows/cry/graph", params={"format": "gif"}).status_code == 422
    (revision,) = node.http.get("/workflows/cry/history").json()["revisions"]
    assert (revision["revision"], revision["serving"]) == (listed["cry"]["revision"], True)


def test_a_run_is_drawn_with_its_states(node: LiveNode) -> None:
    id_ = post(node, "cry", {"text": "a"}).headers["dsfn-run-id"]
    assert "succeeded" in node.http.get(f"/runs/{id_}/graph").text
    assert node.http.get(f"/runs/{id_}/dag").json()["dag"]["options"]["name"] == "cry"


def test_runs_are_listed_page_by_page_of_one_workflow_in_one_state(node: LiveNode) -> None:
    ids = [post(node, "draw", {"side": side}).headers["dsfn-run-id"] for side in (1, 2, 3)]
    query = {"workflow": "draw", "state": "succeeded", "limit": "2"}
    first = node.http.get("/runs", params=query).json()
    assert [one["id"] for one in first["runs"]] == ids[:0:-1]
    rest = node.http.get("/runs", params={**query, "before": first["next"]}).json()
    assert rest["runs"][0]["id"] == ids[0]
    assert node.http.get("/runs", params={"state": "lost"}).status_code == 422
    assert node.http.get("/runs", params={"limit": "0"}).status_code == 422
    assert node.http.get("/runs", params={"before": "nobody"}).status_code == 404
    assert node.http.get("/runs/nobody").status_code == 404


def test_the_steps_of_a_run_come_in_pages(node: LiveNode) -> None:
    id_ = post(node, "count-letters", {"lines": ["a"] * 5}).headers["dsfn-run-id"]
    first = run(node, id_, limit=2)
    assert [step["item"] for step in first["steps"]] == [0, 1]
    assert (first["steps_total"], first["steps_next"]) == (6, 2)
    rest = run(node, id_, after=first["steps_next"])
    assert [step["item"] for step in rest["steps"]] == [2, 3, 4, None]
    assert rest["steps_next"] is None
    assert run(node, id_, limit=0)["steps"] == []


# Called off, tried again, given up.


def test_a_run_that_is_called_off_ends_and_stops_its_call(node: LiveNode, tmp_path: Path) -> None:
    id_ = started(node, "siesta", {"folder": str(tmp_path), "seconds": 30})
    eventually(lambda: (tmp_path / "first.begun").exists(), "the first nap")
    begun = time.monotonic()
    answer = node.http.post(f"/runs/{id_}/cancel")
    assert answer.status_code in (200, 202)
    assert ended(node, id_)["state"] == "cancelled"
    assert time.monotonic() - begun < 10
    assert not (tmp_path / "first.done").exists()
    assert node.http.post(f"/runs/{id_}/cancel").status_code == 409
    assert node.http.post("/runs/nobody/cancel").status_code == 404


def test_who_waits_for_a_run_that_is_called_off_is_told_so(node: LiveNode, tmp_path: Path) -> None:
    body = {"folder": str(tmp_path), "seconds": 30}
    key = {"Idempotency-Key": tmp_path.name}
    watching = {**key, "Accept": "text/event-stream"}

    def watched() -> list[tuple[str, Any]]:
        with node.http.stream("POST", "/workflows/siesta", json=body, headers=watching) as answer:
            return list(events_of(answer))

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(post, node, "siesta", body, key)
        events = pool.submit(watched)
        eventually(lambda: (tmp_path / "first.begun").exists(), "the first nap")
        id_ = node.http.get("/runs", params={"workflow": "siesta", "limit": 1}).json()["runs"][0][
            "id"
        ]
        node.http.post(f"/runs/{id_}/cancel")
        answer, last = waiting.result(), events.result()[-1]
    output = node.http.get(f"/runs/{id_}/output")
    assert (answer.status_code, output.status_code, last[0]) == (409, 409, "error")
    for problem in (answer.json(), output.json(), last[1]):
        assert problem["type"].endswith("/run-cancelled")
        assert (problem["detail"], problem["run"]) == ("The run was cancelled.", id_)
    assert answer.headers["location"] == f"/runs/{id_}"


def test_a_failed_run_is_tried_again_from_where_it_failed(node: LiveNode, tmp_path: Path) -> None:
    old = failed_run(node, tmp_path)
    (tmp_path / "mended").touch()
    answer = node.http.post(f"/runs/{old}/retry")
    assert answer.status_code == 201
    new = answer.json()["id"]
    assert answer.headers["location"] == f"/runs/{new}"
    assert answer.json()["retry_of"] == old != new
    document = ended(node, new)
    assert (document["state"], document["output"]) == ("succeeded", 34)
    assert (tmp_path / "calls").read_text().splitlines() == ["1", "13", "13", "3"]
    assert run(node, old)["state"] == "failed"
    assert node.http.post(f"/runs/{new}/retry").status_code == 409


def test_a_failed_run_is_a_dead_letter_until_it_is_replayed(node: LiveNode, tmp_path: Path) -> None:
    id_ = failed_run(node, tmp_path)
    listed = node.http.get("/deadletters").json()["deadletters"]
    (letter,) = [each for each in listed if each["id"] == id_]
    assert (letter["kind"], letter["name"]) == ("run", "doubled")
    assert (letter["error"]["step"], letter["error"]["item"]) == ("fragile", 1)
    shown = node.http.get(f"/deadletters/{id_}").json()
    assert (shown["run"]["id"], shown["event"]) == (id_, None)
    (tmp_path / "mended").touch()
    replayed = node.http.post(f"/deadletters/{id_}/replay")
    assert replayed.status_code == 202
    new = replayed.json()["location"].removeprefix("/runs/")
    assert ended(node, new)["output"] == 34
    assert node.http.get(f"/deadletters/{id_}").status_code == 404
    assert node.http.post(f"/deadletters/{id_}/replay").status_code == 404


def test_a_dead_event_is_shown_and_delivered_again(node: LiveNode, tmp_path: Path) -> None:
    filters = {"function": "fragile", "exact": {"type": f"number.{tmp_path.name}"}}
    subscription = node.http.post("/subscriptions", json=filters).json()["id"]
    event = {
        "specversion": "1.0",
        "id": tmp_path.name,
        "source": "/test",
        "type": f"number.{tmp_path.name}",
        "data": {"folder": str(tmp_path), "number": "not a number"},
    }
    structured = {"Content-Type": "application/cloudevents+json"}
    node.http.post("/events", content=json.dumps(event), headers=structured)

    def letter() -> Document | None:
        letters = node.http.get("/deadletters").json()["deadletters"]
        return next((each for each in letters if each["name"] == "fragile"), None)

    found = eventually(letter, "the event to be given up")
    assert (found["kind"], found["attempts"]) == ("event", 1)
    shown = node.http.get(f"/deadletters/{found['id']}").json()
    assert shown["event"]["id"] == tmp_path.name
    replayed = node.http.post(f"/deadletters/{found['id']}/replay").json()
    assert replayed["location"] == f"/invocations/{found['id']}"
    again = eventually(
        lambda: one if (one := letter()) and one["attempts"] == 2 else None, "another attempt"
    )
    assert again["id"] == found["id"]
    node.http.delete(f"/subscriptions/{subscription}")


def test_dead_letters_of_both_kinds_come_in_pages(node: LiveNode, tmp_path: Path) -> None:
    ids = [failed_run(node, tmp_path) for _ in range(3)]
    found: list[str] = []
    before: str | None = None
    while True:
        query = {"limit": "1"} | ({} if before is None else {"before": before})
        page = node.http.get("/deadletters", params=query).json()
        found += [each["id"] for each in page["deadletters"]]
        before = page["next"]
        if before is None:
            break
    assert [id_ for id_ in found if id_ in ids] == ids[::-1]
    assert len(found) == len(set(found))
    assert node.http.get("/deadletters", params={"before": "x"}).status_code == 422


# Other lives.


def test_a_workflow_that_is_deleted_leaves_its_runs_to_be_looked_at(
    start: StartNode, tmp_path: Path
) -> None:
    node = start(libraries=())
    node.deploy(APPS / "flows.py")
    id_ = post(node, "cry", {"text": "a"}).headers["dsfn-run-id"]
    going_on = started(node, "siesta", {"folder": str(tmp_path), "seconds": 0.5})
    assert node.http.delete("/workflows/cry").status_code == 204
    assert node.http.delete("/workflows/siesta").status_code == 204
    assert post(node, "cry", {"text": "a"}).status_code == 404
    assert run(node, id_)["output"] == "A"
    assert "cry" in node.http.get(f"/runs/{id_}/graph").text
    assert ended(node, going_on)["state"] == "succeeded"


def test_a_node_that_stops_says_where_the_run_is_and_goes_on_with_it(
    start: StartNode, tmp_path: Path
) -> None:
    node = start(libraries=(), shutdown_timeout_s=1)
    node.deploy(APPS / "flows.py")
    with httpx.Client(base_url=node.url, timeout=60, trust_env=False) as client:
        request = client.build_request(
            "POST", "/workflows/siesta", json={"folder": str(tmp_path), "seconds": 3}
        )
        answers: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: answers.append(client.send(request)))
        waiting.start()
        eventually(lambda: (tmp_path / "first.begun").exists(), "the first nap")
        node.stop()
        waiting.join(30)
    (answer,) = answers
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("/shutting-down")
    id_ = answer.headers["location"].removeprefix("/runs/")
    node = start(libraries=())
    assert ended(node, id_)["state"] == "succeeded"
