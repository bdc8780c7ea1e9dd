"""CloudEvents at a pod's root, in all modes, and where what follows from them goes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from deadlines import eventually
from live_node import LiveNode
from live_pod import LivePod, StartPod
from usage_receiver import Receiver, receiving

from dsfn.billing.sqlite import connect

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


def binary(document: dict[str, Any], **more: str) -> tuple[dict[str, str], bytes]:
    attributes = {k: document[k] for k in ("specversion", "id", "source", "type")} | more
    headers = {f"ce-{name}": value for name, value in attributes.items()}
    return {**headers, "content-type": "application/json"}, json.dumps(document["data"]).encode()


def statuses(node: LiveNode, id_: str) -> list[str]:
    """Of what is on the books of an event, in the order of posting."""
    rows = [row for row in node.rows("note") if f":{id_}" in row.idempotency_key]
    assert len({row.invocation_id for row in rows}) == len(rows)
    return [row.status for row in rows]


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


def test_an_event_that_failed_is_tried_again_when_it_is_sent_again(
    node: LiveNode, pod: LivePod, tmp_path: Path
) -> None:
    folder = tmp_path / "later"
    headers, body = binary(event("again-1", folder / "heard"))
    first = pod.http.post("/", content=body, headers=headers)
    assert (first.status_code, first.json()["title"]) == (500, "Handler raised")
    folder.mkdir()
    for _ in range(2):  # a success is the first answer
        answer = pod.http.post("/", content=body, headers=headers)
        assert (answer.status_code, answer.headers["ce-id"]) == (200, "again-1-noted")
    assert (folder / "heard").read_text().split() == ["again-1"]
    assert statuses(node, "again-1") == ["failed", "succeeded"]


def test_of_a_batch_that_is_sent_again_what_failed_is_tried_again(
    node: LiveNode, pod: LivePod, tmp_path: Path
) -> None:
    heard, folder = tmp_path / "heard", tmp_path / "later"
    batch = json.dumps([event("batch-0", heard), event("batch-1", folder / "heard")])
    first = pod.http.post("/", content=batch, headers={"content-type": BATCH})
    assert (first.status_code, first.json()["index"]) == (500, 1)
    folder.mkdir()
    answer = pod.http.post("/", content=batch, headers={"content-type": BATCH})
    assert [each["id"] for each in answer.json()] == ["batch-0-noted", "batch-1-noted"]
    assert heard.read_text().split() == ["batch-0"]
    assert statuses(node, "batch-0") == ["succeeded"]
    assert statuses(node, "batch-1") == ["failed", "succeeded"]


def test_what_an_event_gets_on_its_way_makes_it_no_other(
    node: LiveNode, pod: LivePod, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    for number in range(2):
        way = {
            "knativearrivaltime": f"2026-01-31T12:00:0{number}.5Z",
            "traceparent": f"00-{'1' * 32}-{'2' * 15}{number}-00",
        }
        headers, body = binary(event("way-1", heard), **way)
        answer = pod.http.post("/", content=body, headers=headers)
        assert (answer.status_code, answer.headers["ce-id"]) == (200, "way-1-noted")
        assert answer.headers.get("dsfn-replayed") == (None, "true")[number]
    assert heard.read_text().split() == ["way-1"]
    assert statuses(node, "way-1") == ["succeeded"]
    headers, body = binary(event("way-1", heard), shop="berlin")
    assert pod.http.post("/", content=body, headers=headers).status_code == 422


def test_first_answers_that_are_kept_no_longer_are_dropped(
    start_pod: StartPod, tmp_path: Path
) -> None:
    data = {"DSFN_DATA": str(tmp_path / "data")}
    pod = start_pod("note", variables=data)
    for id_ in ("old", "young"):
        headers, body = binary(event(id_, tmp_path / "heard"))
        assert pod.http.post("/", content=body, headers=headers).status_code == 200
    assert pod.stop() == 0, pod.log
    with closing(connect(tmp_path / "data" / "pod.db", "")) as connection:
        connection.execute("UPDATE answers SET claimed_at_us = 1 WHERE key LIKE '%:old%'")
        start_pod("note", variables=data)

        def keys() -> list[str]:
            return [str(key) for (key,) in connection.execute("SELECT key FROM answers")]

        eventually(lambda: len(keys()) == 1, "the old answer to go")
        assert ":young" in keys()[0]


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
