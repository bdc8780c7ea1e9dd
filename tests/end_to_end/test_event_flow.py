"""Events from the door to the last function that hears of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from deadlines import eventually
from live_node import APPS, LiveNode, environment

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"


@pytest.fixture(scope="module", autouse=True)
def deployed(node: LiveNode) -> Iterator[None]:
    node.deploy(APPS / "records.py")
    node.deploy(APPS / "calls.py")
    yield
    for name in ("on-exact", "on-result", "on-affixes", "on-request", "on-loss", "on-failure"):
        assert node.http.delete(f"/functions/{name}").status_code == 204


class Post:
    """Sends events whose effects go into one folder."""

    def __init__(self, node: LiveNode, folder: Path) -> None:
        self.node = node
        self.folder = folder

    def structured(self, id: str, type: str, source: str = "/test", **more: Any) -> dict[str, Any]:
        data = {"folder": str(self.folder)}
        return {
            "specversion": "1.0",
            "id": f"{self.folder.name}-{id}",
            "type": type,
            "source": source,
            "data": data,
            **more,
        }

    def send(self, *events: dict[str, Any]) -> httpx.Response:
        """One event in structured mode, several as a batch."""
        body, kind = (events[0], STRUCTURED) if len(events) == 1 else (events, BATCH)
        headers = {"Content-Type": kind}
        return self.node.http.post("/events", content=json.dumps(body), headers=headers)

    def seen(self, by: str) -> list[dict[str, Any]]:
        """What a function has written down."""
        path = self.folder / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["by"] == by]

    def wait(self, by: str, count: int) -> list[dict[str, Any]]:
        """The same, once there are so many."""
        return eventually(
            lambda: found if len(found := self.seen(by)) >= count else [], f"events of {by}"
        )


@pytest.fixture
def post(node: LiveNode, tmp_path: Path) -> Post:
    return Post(node, tmp_path)


def accepted(answer: httpx.Response, events: int, deliveries: int) -> None:
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"events": events, "deliveries": deliveries}


def test_an_event_in_binary_mode_reaches_its_function(node: LiveNode, post: Post) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": f"{post.folder.name}-binary",
        "ce-source": "/a%20place",
        "ce-type": "order.placed",
        "ce-customer": "caf%C3%A9",
    }
    accepted(node.http.post("/events", json={"folder": str(post.folder)}, headers=headers), 1, 1)
    (event,) = post.wait("on-exact", 1)
    assert (event["source"], event["extensions"]["customer"]) == ("/a place", "café")


def test_an_event_in_structured_mode_reaches_its_function(post: Post) -> None:
    accepted(post.send(post.structured("1", "order.placed")), 1, 1)
    (event,) = post.wait("on-exact", 1)
    assert (event["type"], event["id"]) == ("order.placed", f"{post.folder.name}-1")


def test_a_batch_reaches_the_functions_of_each_event(post: Post) -> None:
    batch = [
        post.structured("1", "order.placed"),
        post.structured("2", "photo.taken", "/hall/camera"),
        post.structured("3", "photo.taken", "/hall/scanner"),
        post.structured("4", "order.cancelled"),
    ]
    accepted(post.send(*batch), 4, 2)
    post.wait("on-exact", 1)
    (event,) = post.wait("on-affixes", 1)
    assert event["id"].endswith("-2")


def test_prefix_and_suffix_must_both_fit(post: Post) -> None:
    fits = post.structured("1", "photo.deleted", "/garden/camera")
    batch = [fits, post.structured("2", "photograph", "/garden/camera")]
    accepted(post.send(*batch, post.structured("3", "photo.x", "/camera/garden")), 3, 1)
    (event,) = post.wait("on-affixes", 1)
    assert event["type"] == "photo.deleted"


def test_a_result_goes_on_as_an_event_and_feeds_the_next_function(post: Post) -> None:
    post.send(post.structured("1", "order.placed"))
    (event,) = post.wait("on-result", 1)
    assert (event["type"], event["source"]) == (
        "dev.dsfn.function.completed",
        "/functions/on-exact",
    )
    assert event["data"] == {"folder": str(post.folder), "said": "packed"}
    cause = f"{post.folder.name}-1"
    extensions = event["extensions"]
    assert (extensions["causationid"], extensions["correlationid"]) == (cause, cause)
    rows = {row.function for row in post.node.rows() if row.caller == "/functions/on-exact"}
    assert rows == {"on-result"}


def test_the_same_source_and_id_run_once(post: Post) -> None:
    event = post.structured("1", "order.placed")
    accepted(post.send(event), 1, 1)
    accepted(post.send(event), 1, 0)
    accepted(post.send(event, event), 2, 0)
    post.wait("on-result", 1)
    assert len(post.seen("on-exact")) == 1
    changed = post.send({**event, "subject": "another"})
    assert (changed.status_code, changed.json()["field"]) == (409, "id")


def test_dsfn_subscribe_sends_events_to_a_function(node: LiveNode, post: Post) -> None:
    accepted(post.send(post.structured("0", "mail.received", "/post/office")), 1, 0)
    made = dsfn(
        node,
        "subscribe",
        "on-request",
        "--exact",
        "type=mail.received",
        "--prefix",
        "source=/post/",
    )
    assert made["origin"] == "user"
    again = dsfn(
        node,
        "subscribe",
        "on-request",
        "--prefix",
        "source=/post/",
        "--exact",
        "type=mail.received",
    )
    assert again["id"] == made["id"]
    accepted(post.send(post.structured("1", "mail.received", "/post/office")), 1, 1)
    accepted(post.send(post.structured("2", "mail.received", "/bakery")), 1, 0)
    (event,) = post.wait("on-request", 1)
    assert event["id"].endswith("-1")
    assert made in node.describe("on-request")["subscriptions"]
    assert node.http.delete(f"/subscriptions/{made['id']}").status_code == 204
    accepted(post.send(post.structured("3", "mail.received", "/post/office")), 1, 0)


def test_a_batch_with_one_bad_event_is_refused_as_a_whole(post: Post) -> None:
    good = post.structured("1", "order.placed")
    bad = {name: value for name, value in good.items() if name != "source"}
    answer = post.send(good, bad)
    problem = answer.json()
    assert (answer.status_code, problem["field"], problem["index"]) == (400, "source", 1)
    accepted(post.send(good), 1, 1)


@pytest.mark.parametrize(
    ("headers", "body", "status", "field"),
    [
        ({"Content-Type": STRUCTURED}, b"{", 400, "event"),
        ({"Content-Type": STRUCTURED}, b'{"specversion": "1.0", "id": "1"}', 400, "source"),
        ({"Content-Type": STRUCTURED}, b"[" * 100_000, 400, "event"),
        ({"Content-Type": BATCH}, b"{}", 400, "event"),
        ({"ce-id": "1", "ce-source": "/a", "ce-type": "b"}, b"", 400, "specversion"),
        (
            {"ce-id": "1", "ce-source": "/a", "ce-type": "b", "ce-specversion": "0.3"},
            b"",
            400,
            "specversion",
        ),
    ],
)
def test_what_is_no_event_is_refused_and_names_the_attribute(
    node: LiveNode, headers: dict[str, str], body: bytes, status: int, field: str
) -> None:
    answer = node.http.post("/events", content=body, headers=headers)
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text


def test_an_event_that_its_function_cannot_take_is_given_up_and_told_of(
    node: LiveNode, post: Post
) -> None:
    before = node.http.get("/status").json()["events"]["dead"]
    accepted(post.send(post.structured("1", "parcel.lost", data={"folder": 7})), 1, 1)
    eventually(
        lambda: node.http.get("/status").json()["events"]["dead"] == before + 1, "it to be given up"
    )
    rows = [row for row in node.rows("on-loss") if post.folder.name in row.idempotency_key]
    assert [row.status for row in rows] == ["failed"] * 4
    assert len({row.invocation_id for row in rows}) == 4
    eventually(lambda: node.rows("on-failure"), "the event that tells of it")


def test_a_direct_call_with_an_event_answers_with_one(node: LiveNode) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "answered-1",
        "ce-source": "/test",
        "ce-type": "greeting",
    }
    answer = node.http.post("/functions/greet", json={"name": "you"}, headers=headers)
    assert answer.json() == {"hello": "you", "source": "/test"}
    assert answer.headers["ce-type"] == "dev.dsfn.function.completed"
    assert answer.headers["ce-source"] == "/functions/greet"
    assert answer.headers["ce-causationid"] == "answered-1"
    assert answer.headers["ce-id"] == answer.headers["dsfn-invocation-id"]
    event = {
        "specversion": "1.0",
        "id": "answered-2",
        "source": "/test",
        "type": "greeting",
        "data": {"name": "you"},
    }
    headers = {"Content-Type": STRUCTURED}
    answer = node.http.post("/functions/greet", content=json.dumps(event), headers=headers)
    assert answer.headers["content-type"] == STRUCTURED
    told = answer.json()
    assert (told["type"], told["data"]["hello"]) == ("dev.dsfn.function.completed", "you")


def test_an_asynchronous_call_can_be_followed_to_its_result(node: LiveNode, tmp_path: Path) -> None:
    answer = node.http.post(
        "/functions/rest",
        json={"seconds": 0.5, "path": str(tmp_path / "begun")},
        headers={"Prefer": "respond-async"},
    )
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["preference-applied"] == "respond-async"
    place = answer.headers["location"]
    assert place == f"/invocations/{answer.headers['dsfn-invocation-id']}"
    eventually((tmp_path / "begun").exists, "the call to run")
    running = node.http.get(place).json()
    assert (running["state"], running["result"], running["error"]) == ("running", None, None)
    early = node.http.get(f"{place}/result")
    assert (early.status_code, early.json()["title"]) == (409, "Conflict")
    ended = eventually(
        lambda: found if (found := node.http.get(place).json())["finished_at"] else None, "its end"
    )
    assert (ended["state"], ended["attempts"]) == ("succeeded", 1)
    result = node.http.get(ended["result"])
    assert result.json() == int((tmp_path / "begun").read_text())
    (row,) = node.rows_of(ended["id"])
    assert result.headers["dsfn-held-us"] == str(row.held_us)


def test_an_asynchronous_call_that_fails_keeps_its_error(node: LiveNode) -> None:
    answer = node.http.post("/functions/rest", json={}, headers={"Prefer": "respond-async"})
    place = answer.headers["location"]
    ended = eventually(
        lambda: found if (found := node.http.get(place).json())["finished_at"] else None, "its end"
    )
    assert (ended["state"], ended["result"]) == ("failed", None)
    assert (ended["error"]["status"], ended["error"]["field"]) == (422, "seconds")
    assert node.http.get(f"{place}/result").status_code == 422


def dsfn(node: LiveNode, *arguments: str) -> Any:
    """The JSON document of a command that works."""
    done = subprocess.run(
        [sys.executable, "-m", "dsfn", *arguments, "--json"],
        env=environment({"DSFN_URL": node.url, "DSFN_DATA": str(node.data)}),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)
