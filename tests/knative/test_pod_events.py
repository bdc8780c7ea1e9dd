"""CloudEvents at a pod's root, in all modes, and where what follows from them goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from deadlines import eventually
from live_node import LiveNode
from live_pod import LivePod, StartPod
from usage_receiver import Receiver, receiving

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def event(id_: str, path: Path, **data: object) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "/tests",
        "type": "said",
        "datacontenttype": "application/json",
        "data": {"path": str(path), "word": "hello", **data},
    }


def binary(document: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    headers = {f"ce-{k}": document[k] for k in ("specversion", "id", "source", "type")}
    return {**headers, "content-type": "application/json"}, json.dumps(document["data"]).encode()


@pytest.fixture
def pod(start_pod: StartPod) -> LivePod:
    return start_pod("note")


def test_a_structured_event_is_answered_with_one(
    node: LiveNode, pod: LivePod, tmp_path: Path
) -> None:
    body = json.dumps(event("s-1", tmp_path / "heard"))
    answer = pod.http.post("/", content=body, headers={"content-type": STRUCTURED})
    assert (answer.status_code, answer.headers["content-type"]) == (200, STRUCTURED)
    reply = answer.json()
    assert (reply["id"], reply["type"], reply["data"]) == ("s-1-noted", "noted", "hello")
    assert (reply["causationid"], reply["dsfnhops"]) == ("s-1", "1")
    other = body.replace("s-1", "s-2")  # one event is on the books once, whoever takes it
    there = node.http.post("/functions/note", content=other, headers={"content-type": STRUCTURED})
    assert {**reply, "time": ""} == json.loads(there.text.replace("s-2", "s-1")) | {"time": ""}
    assert node.row(answer).idempotency_key.startswith("event:")


def test_a_binary_event_is_answered_with_one(pod: LivePod, tmp_path: Path) -> None:
    headers, body = binary(event("b-1", tmp_path / "heard"))
    answer = pod.http.post("/", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["ce-id"] == "b-1-noted"
    assert answer.headers["ce-type"] == "noted"
    assert answer.json() == "hello"


def test_a_batch_is_answered_with_what_follows_from_its_events(
    node: LiveNode, pod: LivePod, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    batch = [event(f"t-{n}", heard, silent=n == 1) for n in range(3)]
    for _ in range(2):  # sent again, nothing runs again
        answer = pod.http.post("/", content=json.dumps(batch), headers={"content-type": BATCH})
        assert (answer.status_code, answer.headers["content-type"]) == (200, BATCH)
        assert [each["id"] for each in answer.json()] == ["t-0-noted", "t-2-noted"]
    assert sorted(heard.read_text().split()) == ["t-0", "t-1", "t-2"]
    keys = [row.idempotency_key for row in node.rows("note")]
    assert len([key for key in keys if "t-" in key]) == 3


def test_a_batch_with_an_event_that_fails_says_which(pod: LivePod, tmp_path: Path) -> None:
    batch = [event("f-0", tmp_path / "heard"), event("f-1", tmp_path / "no" / "folder")]
    answer = pod.http.post("/", content=json.dumps(batch), headers={"content-type": BATCH})
    assert (answer.status_code, answer.json()["index"]) == (500, 1)


def test_a_result_of_null_is_no_event(pod: LivePod, tmp_path: Path) -> None:
    body = json.dumps(event("n-1", tmp_path / "heard", silent=True))
    answer = pod.http.post("/", content=body, headers={"content-type": STRUCTURED})
    assert (answer.status_code, answer.content) == (204, b"")
    assert int(answer.headers["dsfn-held-us"]) > 0


def test_an_event_that_goes_round_is_stopped(pod: LivePod, tmp_path: Path) -> None:
    body = json.dumps({**event("r-1", tmp_path / "heard"), "dsfnhops": 33})
    answer = pod.http.post("/", content=body, headers={"content-type": STRUCTURED})
    assert (answer.status_code, answer.json()["hops"]) == (500, 33)
    assert not (tmp_path / "heard").exists()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": STRUCTURED}, b"{}", 400),
        ({"content-type": BATCH}, b"{}", 400),
        ({"content-type": "application/cloudevents+xml"}, b"<e/>", 415),
        ({"ce-id": "1"}, b"", 400),
    ],
)
def test_what_is_no_event_is_refused_as_on_a_node(
    node: LiveNode, pod: LivePod, headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = pod.http.post("/", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_follows_goes_to_the_sink_with_the_overrides(
    start_pod: StartPod, tmp_path: Path
) -> None:
    with receiving(Receiver(faults=["500"])) as sink:
        overrides = json.dumps({"extensions": {"shop": "berlin", "dsfnhops": "7"}})
        pod = start_pod("note", variables={"K_SINK": sink.url, "K_CE_OVERRIDES": overrides})
        body, headers = json.dumps(event("k-1", tmp_path / "heard")), {"content-type": STRUCTURED}
        refused = pod.http.post("/", content=body, headers=headers)
        assert (refused.status_code, sink.taken) == (503, [])
        assert "event sink" in refused.json()["detail"]
        answer = pod.http.post("/", content=body, headers=headers)
        assert (answer.status_code, answer.content) == (202, b"")
        (sent,) = sink.taken
    assert (sent["id"], sent["shop"], sent["dsfnhops"]) == ("k-1-noted", "berlin", "7")
    assert (tmp_path / "heard").read_text().split() == ["k-1"]


def test_a_call_is_answered_though_there_is_a_sink(start_pod: StartPod) -> None:
    with receiving(Receiver()) as sink:
        pod = start_pod("shout", variables={"K_SINK": sink.url})
        answer: httpx.Response = pod.call(text="hello")
        assert (answer.status_code, answer.text, sink.taken) == (200, "HELLO", [])
        eventually(lambda: pod.stop() == 0, "the pod to end")
