from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from cloudevents.core.bindings import http as sdk
from cloudevents.core.v1.event import CloudEvent
from event_node import EventNode, ManualClock, answer_to, kind_is
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from trusted import trusted

from dsfn.functions.errors import (
    Conflict,
    DsfnError,
    HandlerRaised,
    InvalidInput,
    MalformedBody,
    PayloadTooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from dsfn.functions.event import Event, to_document
from dsfn.functions.interface import FilterInterface
from dsfn.functions.options import Options
from dsfn.runtime.blobs import digest_of, reference_to
from dsfn.runtime.config import Settings
from dsfn.runtime.events.binding import (
    BATCH_CONTENT_TYPE,
    MAX_BATCH_EVENTS,
    answer_event,
    event_of_request,
    events_of_request,
)
from dsfn.runtime.events.results import (
    MAX_HOPS,
    event_body,
    event_key,
    event_of_body,
    hops_of,
)
from dsfn.runtime.events.router import KEEP_EVENTS_S
from dsfn.runtime.events.stored import INLINE_BYTES
from dsfn.runtime.gateway import events as events_routes
from dsfn.runtime.gateway import invocations as invocations_routes
from dsfn.runtime.gateway.request import BodyReader
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.problems import problem_response

EVENT = Event(
    id="1",
    source="/photos",
    type="photo.uploaded",
    time="2026-01-31T12:00:00.123456789Z",
    subject='käse & "brot" 100%',
    datacontenttype="application/json",
    data=b'{"size": [1, 2.50]}',
    extensions={"stage": "raw", "hot": True, "size": 7},
)
STRUCTURED = {b"content-type": b"application/cloudevents+json; charset=utf-8"}
BATCHED = {b"content-type": BATCH_CONTENT_TYPE.encode()}
ANYTHING = FilterInterface({}, {"type": ""}, {})


def binary_headers(**changes: str | None) -> dict[bytes, bytes]:
    attributes: dict[str, str | None] = {
        "specversion": "1.0", "id": "1", "source": "/photos", "type": "photo.uploaded", **changes
    }  # fmt: skip
    return {f"ce-{n}".encode(): v.encode() for n, v in attributes.items() if v is not None}


# ---------------------------------------------------------------- events over HTTP


def test_an_event_is_the_same_in_every_mode() -> None:
    answer = replace(
        answer_to(Call("c", "resize", b"", "")),
        content_type="application/cloudevents+json",
        body=event_body(EVENT),
    )
    headers, body = answer_event(answer, EVENT, binary_headers())
    binary = event_of_request(dict(headers), body)
    assert binary is not None and binary.json() == EVENT.json()
    structured = event_of_request(STRUCTURED, json.dumps(to_document(binary)).encode())
    [batched] = events_of_request(BATCHED, json.dumps([to_document(binary)]).encode())
    assert structured == batched
    assert structured is not None and event_body(structured) == event_body(binary)
    for name in ("id", "source", "type", "time", "subject", "stage", "hot", "size"):
        assert binary.attribute(name) == structured.attribute(name) == EVENT.attribute(name)


def test_an_event_of_the_official_sdk_is_read_in_both_modes() -> None:
    theirs = CloudEvent(
        {"id": "7", "source": "/sdk", "type": "t", "subject": "ä %", "color": "blue",
         "datacontenttype": "application/json"},
        {"a": [1, "ß"]},
    )  # fmt: skip
    for message in (sdk.to_binary_event(theirs), sdk.to_structured_event(theirs)):
        headers = {k.lower().encode(): v.encode("latin-1") for k, v in message.headers.items()}
        ours = event_of_request(headers, message.body)
        assert ours is not None
        assert (ours.id, ours.source, ours.subject) == ("7", "/sdk", "ä %")
        assert ours.extensions == {"color": "blue"}
        assert ours.json() == {"a": [1, "ß"]}


@pytest.mark.parametrize("mode", [binary_headers(), STRUCTURED])
def test_an_answer_is_an_event_that_the_official_sdk_reads(mode: dict[bytes, bytes]) -> None:
    answer = answer_to(Call("call-1", "count-words", b"", ""), b'{"words":3}')
    headers, body = answer_event(answer, EVENT, mode)
    message = sdk.HTTPMessage({k.decode(): v.decode() for k, v in headers}, body)
    theirs = sdk.from_http_event(message)
    assert theirs.get_id() == "call-1"
    assert theirs.get_source() == "/functions/count-words"
    assert theirs.get_type() == "dev.dsfn.function.completed"
    assert theirs.get_data() == {"words": 3}
    assert theirs.get_extension("causationid") == theirs.get_extension("correlationid") == "1"


def test_a_request_without_an_event_is_none() -> None:
    assert event_of_request({b"content-type": b"application/json"}, b"{}") is None
    with pytest.raises(UnsupportedMediaType):
        events_of_request({b"content-type": b"application/json"}, b"{}")


@pytest.mark.parametrize("kind", [b"application/cloudevents+avro", BATCH_CONTENT_TYPE.encode()])
def test_what_is_not_one_event_is_not_taken_for_one(kind: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        event_of_request({b"content-type": kind}, b"[]")


@pytest.mark.parametrize(
    ("headers", "attribute"),
    [
        (binary_headers(id=None), "id"),
        (binary_headers(specversion=None), "specversion"),
        (binary_headers(specversion="0.3"), "specversion"),
        (binary_headers(source=""), "source"),
        (binary_headers(time="yesterday"), "time"),
        (binary_headers(type="%FF"), "type"),
        (binary_headers(subject="a%00b"), "subject"),
        (binary_headers(data="x"), "data"),
        (binary_headers(Wrong="x"), "Wrong"),
        (binary_headers(id="x" * 9000), "id"),
    ],
)
def test_a_bad_header_is_named(headers: dict[bytes, bytes], attribute: str) -> None:
    with pytest.raises(MalformedBody) as refused:
        event_of_request(headers, b"")
    assert refused.value.fields["field"] == attribute


@pytest.mark.parametrize(
    ("body", "attribute"),
    [
        (b"", "event"),
        (b"[]", "event"),
        (b"\xff", "event"),
        (b'{"id": "1"', "event"),
        (b"[" * 100_000, "event"),
        (b'{"specversion":"1.0","id":"1","source":"/a"}', "type"),
        (b'{"specversion":"1.0","id":1,"source":"/a","type":"t"}', "id"),
        (b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":NaN}', "data"),
        (b'{"specversion":"1.0","id":"1","source":"/a","type":"t","x":1.5}', "x"),
        (b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data_base64":"?"}',
         "data_base64"),
    ],
)  # fmt: skip
def test_a_bad_member_is_named(body: bytes, attribute: str) -> None:
    with pytest.raises(MalformedBody) as refused:
        event_of_request(STRUCTURED, body)
    assert refused.value.fields["field"] == attribute


@given(body=st.binary(max_size=200), kind=st.sampled_from([STRUCTURED, BATCHED, binary_headers()]))
def test_any_bytes_give_events_or_a_refusal(body: bytes, kind: dict[bytes, bytes]) -> None:
    try:
        for event in events_of_request(kind, body):
            assert event_of_body(event_body(event)).data is not None
    except MalformedBody:
        pass


def test_a_batch_with_one_bad_event_says_which() -> None:
    documents = [to_document(EVENT), {**to_document(EVENT), "id": ""}]
    with pytest.raises(MalformedBody) as refused:
        events_of_request(BATCHED, json.dumps(documents).encode())
    assert (refused.value.fields["index"], refused.value.fields["field"]) == (1, "id")


def test_a_batch_has_a_limit() -> None:
    documents = [to_document(EVENT)] * (MAX_BATCH_EVENTS + 1)
    with pytest.raises(MalformedBody):
        events_of_request(BATCHED, json.dumps(documents).encode())


TEXTS = st.text("ab1:2", min_size=1, max_size=8)


@given(first=st.tuples(TEXTS, TEXTS, TEXTS), second=st.tuples(TEXTS, TEXTS, TEXTS))
def test_keys_of_different_events_differ(
    first: tuple[str, str, str], second: tuple[str, str, str]
) -> None:
    keys = [event_key(Event(id=i, source=s, type="t"), f) for s, i, f in (first, second)]
    assert (keys[0] == keys[1]) == (first == second)


def test_a_long_key_stays_short_and_its_own() -> None:
    keys = {event_key(Event(id=f"{n}" * 4000, source="/a", type="t"), "f") for n in range(3)}
    assert len(keys) == 3 and max(map(len, keys)) < 100


# ---------------------------------------------------------------- the router


Handler = Callable[[Call], Awaitable[Answer]]


def nothing(event: Event) -> None:
    """A function without a result."""


class Handlers:
    """Functions by name; each notes the events it got."""

    def __init__(self, **handlers: Callable[[Event], object]) -> None:
        self.handlers = handlers
        self.got: list[tuple[str, Event]] = []

    async def __call__(self, call: Call) -> Answer:
        event = event_of_body(call.body)
        self.got.append((call.function, event))
        result = self.handlers.get(call.function, nothing)(event)
        if isinstance(result, Event):
            return answer_to(call, event_body(result), "application/cloudevents+json")
        return answer_to(call, json.dumps(result).encode())

    def events_of(self, function: str) -> list[Event]:
        return [event for name, event in self.got if name == function]


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def node(tmp_path: Path, handlers: Handlers) -> Iterator[EventNode]:
    made = EventNode(tmp_path, ManualClock(), handlers, max_queued=50)
    yield made
    made.close()


async def drained(node: EventNode) -> None:
    clock = node.clock
    assert isinstance(clock, ManualClock)
    while node.queue.queued_count():
        if not await node.step():
            clock.advance(1)


def test_an_event_goes_once_to_every_function_that_subscribed(
    node: EventNode, handlers: Handlers
) -> None:
    async def main() -> None:
        node.deploy("a", kind_is("photo.uploaded"), FilterInterface({}, {"source": "/pho"}, {}))
        node.deploy("b", FilterInterface({"type": "photo.uploaded"}, {}, {"subject": "%"}))
        node.deploy("c", kind_is("photo.deleted"))
        assert await node.router.accept([EVENT]) == 2
        await drained(node)
        assert [name for name, _ in handlers.got] == ["a", "b"]
        assert handlers.got[0][1].data == b'{"size":[1,2.5]}'
        assert await node.router.accept([EVENT]) == 0

    asyncio.run(main())


def test_an_event_that_nobody_wants_is_remembered(node: EventNode) -> None:
    async def main() -> None:
        assert await node.router.accept([EVENT]) == 0
        node.deploy("late", ANYTHING)
        assert await node.router.accept([EVENT]) == 0
        assert await node.router.accept([replace(EVENT, id="2")]) == 1

    asyncio.run(main())


def test_the_same_id_with_another_content_is_a_conflict_and_stores_nothing(
    node: EventNode,
) -> None:
    async def main() -> None:
        node.deploy("a", ANYTHING)
        await node.router.accept([EVENT])
        other = replace(EVENT, data=b"{}")
        with pytest.raises(Conflict) as refused:
            await node.router.accept([replace(EVENT, id="new"), other])
        assert (refused.value.fields["source"], refused.value.fields["id"]) == ("/photos", "1")
        with pytest.raises(Conflict):
            await node.router.accept([replace(EVENT, id="x"), replace(EVENT, id="x", data=b"1")])
        assert len(node.states("a")) == 1
        assert await node.router.accept([replace(EVENT, id="new")]) == 1

    asyncio.run(main())


def test_a_full_queue_takes_no_event_at_all(node: EventNode) -> None:
    async def main() -> None:
        node.deploy("a", ANYTHING)
        batch = [replace(EVENT, id=f"{number}") for number in range(51)]
        with pytest.raises(Unavailable):
            await node.router.accept(batch)
        assert node.states("a") == []
        assert await node.router.accept(batch[:50]) == 50

    asyncio.run(main())


def test_a_large_event_is_kept_once_for_all_its_functions(
    node: EventNode, handlers: Handlers, tmp_path: Path
) -> None:
    async def main() -> None:
        node.deploy("a", ANYTHING)
        node.deploy("b", ANYTHING)
        large = replace(EVENT, datacontenttype="image/png", data=b"\x89" * (INLINE_BYTES + 1))
        await node.router.accept([large])
        assert await node.router.accept([large]) == 0, "it is the same event again"
        assert len(list((tmp_path / "blobs").rglob("*.type"))) == 1
        await drained(node)
        told = [event for _, event in handlers.got]
        assert [event.data for event in told] == [b"", b""]
        assert {event.attribute("dataref") for event in told} == {reference_to(large.data)}
        assert node.blobs.get(digest_of(reference_to(large.data))) == (large.data, "image/png")
        with pytest.raises(PayloadTooLarge):
            await node.router.accept([replace(large, id="2", data=b"\x89" * (1 << 21))])

    asyncio.run(main())


def test_a_large_result_goes_on_by_reference_and_is_kept_once(
    node: EventNode, handlers: Handlers, tmp_path: Path
) -> None:
    large = "x" * (INLINE_BYTES + 1)

    async def main() -> None:
        handlers.handlers["big"] = lambda event: large
        handlers.handlers["own"] = lambda event: Event.of(type="mine", data=large)
        node.deploy("big", kind_is("photo.uploaded"))
        node.deploy("own", kind_is("photo.uploaded"))
        node.deploy("store", kind_is("dev.dsfn.function.completed"), kind_is("mine"))
        await node.router.accept([EVENT])
        await drained(node)
        told = handlers.events_of("store")
        assert [event.type for event in told] == ["dev.dsfn.function.completed", "mine"]
        for event in told:
            assert event.data == b"" and event.datacontenttype == "application/json"
            data, _ = node.blobs.get(digest_of(event.attribute("dataref") or ""))
            assert json.loads(data) == large
        # The result of `big` and the data of both events are the same bytes; `own` gave an event.
        assert len(list((tmp_path / "blobs").rglob("*.type"))) == 2

    asyncio.run(main())


def test_an_event_that_refers_to_its_data_already_is_left_as_it_is(
    node: EventNode, handlers: Handlers
) -> None:
    async def main() -> None:
        node.deploy("a", ANYTHING)
        data = b"\x89" * (INLINE_BYTES + 1)
        for number, extensions in enumerate(
            ({"dataref": "https://web/photo"}, {f"x{n}": "1" for n in range(64)})
        ):
            event = replace(EVENT, id=str(number), data=data, datacontenttype="image/png")
            await node.router.accept([replace(event, extensions=extensions)])
        await drained(node)
        assert [event.data for _, event in handlers.got] == [data, data]

    asyncio.run(main())


@pytest.mark.parametrize("data", [b"", b'{"knative":"mine","n":[1.5e3,"\\u00e4"]}', b"\x89knative"])
def test_what_an_event_gets_on_its_way_makes_it_no_other(
    node: EventNode, handlers: Handlers, data: bytes
) -> None:
    ways: tuple[dict[str, str | int], ...] = (
        {},
        {"knativearrivaltime": "2026-01-31T12:00:00Z", "knativebrokerttl": 254},
        {"knativeerrorcode": 500, "traceparent": f"00-{'1' * 32}-{'2' * 16}-00", "tracestate": "a"},
    )

    async def main() -> None:
        node.deploy("a", ANYTHING)
        event = replace(EVENT, data=data, extensions={"shop": "berlin"})
        counts = [
            await node.router.accept([replace(event, extensions={**event.extensions, **way})])
            for way in ways
        ]
        assert counts == [1, 0, 0]
        for other in ({"shop": "bonn"}, {"shop": "berlin", "notknative": "1"}):
            with pytest.raises(Conflict):
                await node.router.accept([replace(event, extensions=other)])

    asyncio.run(main())


def test_events_are_remembered_as_long_as_first_answers(node: EventNode) -> None:
    clock = node.clock
    assert isinstance(clock, ManualClock)

    async def main() -> None:
        node.deploy("a", ANYTHING)
        await node.router.accept([EVENT])
        clock.advance(KEEP_EVENTS_S)
        assert node.router.prune() == 0
        clock.advance(1)
        assert node.router.prune() == 1

    asyncio.run(main())


# ---------------------------------------------------------------- what follows from events


def test_a_result_is_an_event_that_goes_on(node: EventNode, handlers: Handlers) -> None:
    async def main() -> None:
        handlers.handlers["count"] = lambda event: {"words": 3}
        node.deploy("count", kind_is("photo.uploaded"))
        node.deploy("store", kind_is("dev.dsfn.function.completed"))
        await node.router.accept([EVENT])
        await drained(node)
        [completed] = handlers.events_of("store")
        assert completed.id == node.ids("count")[0]
        assert completed.source == "/functions/count"
        assert completed.json() == {"words": 3}
        assert completed.datacontenttype == "application/json"
        assert completed.attribute("causationid") == completed.attribute("correlationid") == "1"
        assert hops_of(completed) == 1
        assert node.states("store") == ["succeeded"]

    asyncio.run(main())


def test_an_event_that_is_returned_is_the_one_that_goes_on(
    node: EventNode, handlers: Handlers
) -> None:
    async def main() -> None:
        handlers.handlers["first"] = lambda event: Event(
            id="own", source="/mine", type="second", extensions={"color": "blue"}
        )
        handlers.handlers["second"] = lambda event: Event(id="own2", source="/mine", type="third")
        node.deploy("first", kind_is("photo.uploaded"))
        node.deploy("second", kind_is("second"))
        node.deploy("third", kind_is("third"))
        await node.router.accept([EVENT])
        await drained(node)
        [second], [third] = handlers.events_of("second"), handlers.events_of("third")
        assert (second.id, second.source, second.attribute("color")) == ("own", "/mine", "blue")
        assert (third.attribute("causationid"), third.attribute("correlationid")) == ("own", "1")
        assert (hops_of(second), hops_of(third)) == (1, 2)

    asyncio.run(main())


def test_of_returned_events_with_one_id_the_first_goes_on(
    node: EventNode, handlers: Handlers
) -> None:
    async def main() -> None:
        handlers.handlers["first"] = lambda event: Event(
            id="same", source="/mine", type="second", data=event.id.encode()
        )
        node.deploy("first", kind_is("photo.uploaded"))
        node.deploy("second", kind_is("second"))
        await node.router.accept([EVENT, replace(EVENT, id="2")])
        await drained(node)
        assert [event.data for event in handlers.events_of("second")] == [b"1"]
        assert node.states("first") == ["succeeded"] * 2

    asyncio.run(main())


def test_null_is_no_event(node: EventNode) -> None:
    async def main() -> None:
        node.deploy("quiet", kind_is("photo.uploaded"))
        node.deploy("store", kind_is("dev.dsfn.function.completed"))
        await node.router.accept([EVENT])
        await drained(node)
        assert node.states("store") == []

    asyncio.run(main())


def test_an_event_is_tried_again_and_then_given_up_with_its_reason(
    node: EventNode, handlers: Handlers
) -> None:
    def fails(event: Event) -> None:
        raise HandlerRaised("ValueError: no.", exception="ValueError")

    async def main() -> None:
        handlers.handlers["bad"] = fails
        node.deploy("bad", kind_is("photo.uploaded"))
        node.deploy("watch", kind_is("dev.dsfn.function.failed"))
        await node.router.accept([EVENT])
        await drained(node)
        assert len(handlers.events_of("bad")) == 4
        assert node.states("bad") == ["dead"] and node.queue.dead_count() == 1
        found = node.queue.get(node.ids("bad")[0])
        assert found.attempts == 4 and found.error is not None
        [failed] = handlers.events_of("watch")
        assert failed.source == "/functions/bad"
        assert failed.datacontenttype == "application/problem+json"
        assert failed.json()["type"].endswith("/handler-raised")
        assert failed.json()["instance"] == found.id == failed.id
        rows = [row for row in node.ledger.between(0, 2**60) if row.function == "bad"]
        assert len(rows) == len({row.invocation_id for row in rows}) == 4

    asyncio.run(main())


@pytest.mark.parametrize("retries", [0, 1])
def test_an_event_is_tried_as_often_and_as_soon_as_its_function_says(
    node: EventNode, handlers: Handlers, retries: int
) -> None:
    def fails(event: Event) -> None:
        raise HandlerRaised("ValueError: no.", exception="ValueError")

    async def main() -> None:
        handlers.handlers["hasty"] = fails
        hasty = Options("hasty", retries=retries, backoff_policy="linear", backoff_delay_s=0.0)
        node.deploy("hasty", kind_is("photo.uploaded"), options=hasty)
        await node.router.accept([EVENT])
        await drained(node)
        assert len(handlers.events_of("hasty")) == retries + 1
        assert node.states("hasty") == ["dead"]

    asyncio.run(main())


def test_an_event_that_does_not_fit_is_not_tried_again(node: EventNode, handlers: Handlers) -> None:
    def refuses(event: Event) -> None:
        raise InvalidInput("'a' is missing.", field="a")

    async def main() -> None:
        handlers.handlers["strict"] = refuses
        node.deploy("strict", kind_is("photo.uploaded"))
        await node.router.accept([EVENT])
        await drained(node)
        assert len(handlers.got) == 1
        assert node.states("strict") == ["dead"]

    asyncio.run(main())


def test_functions_that_call_each_other_for_ever_are_stopped(
    node: EventNode, handlers: Handlers
) -> None:
    async def main() -> None:
        handlers.handlers["ping"] = lambda event: "pong"
        node.deploy("ping", ANYTHING)
        await node.router.accept([EVENT])
        await drained(node)
        assert len(handlers.got) == MAX_HOPS + 1
        assert Counter(node.states("ping")) == {"succeeded": MAX_HOPS + 1, "dead": 1}
        reason = node.queue.get(node.ids("ping")[-1]).error
        assert reason is not None and "loop" in reason["message"]
        assert len(list(node.ledger.between(0, 2**60))) == MAX_HOPS + 1

    asyncio.run(main())


def test_failures_that_call_each_other_for_ever_are_stopped_too(
    node: EventNode, handlers: Handlers
) -> None:
    def refuses(event: Event) -> None:
        raise InvalidInput("No.", field="a")

    async def main() -> None:
        handlers.handlers["bad"] = refuses
        node.deploy("bad", ANYTHING)
        await node.router.accept([EVENT])
        await drained(node)
        assert node.states("bad") == ["dead"] * (MAX_HOPS + 2)

    asyncio.run(main())


@pytest.mark.parametrize("hops", ["-5", "many", "1" * 50, "²"])
def test_a_hop_count_from_outside_that_is_none_counts_from_nothing(hops: str) -> None:
    assert hops_of(replace(EVENT, extensions={"dsfnhops": hops})) == 0


def test_a_result_waits_when_the_queue_cannot_take_its_event(
    node: EventNode, handlers: Handlers
) -> None:
    async def main() -> None:
        handlers.handlers["count"] = lambda event: 3
        node.deploy("count", kind_is("photo.uploaded"))
        node.deploy("store", kind_is("dev.dsfn.function.completed"))
        await node.router.accept([EVENT])
        room, node.queue._max_queued = node.queue._max_queued, 0
        assert await node.step()
        assert node.states("count") == ["queued"] and node.states("store") == []
        node.queue._max_queued = room
        await drained(node)
        assert node.states("count") == node.states("store") == ["succeeded"]
        assert len(handlers.events_of("count")) == 1, "it ran twice"

    asyncio.run(main())


def test_a_result_that_is_too_large_for_an_event_is_given_up_and_not_run_again(
    node: EventNode, handlers: Handlers
) -> None:
    async def main() -> None:
        handlers.handlers["big"] = lambda event: "x" * (1 << 20)
        node.deploy("big", kind_is("photo.uploaded"))
        node.deploy("store", kind_is("dev.dsfn.function.completed"))
        node.deploy("watch", kind_is("dev.dsfn.function.failed"))
        await node.router.accept([EVENT])
        await drained(node)
        assert node.states("big") == ["dead"] and node.states("store") == []
        assert len(handlers.events_of("big")) == 1
        [failed] = handlers.events_of("watch")
        assert failed.json()["type"].endswith("/payload-too-large")

    asyncio.run(main())


# ---------------------------------------------------------------- the routes


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, DsfnError)
    return problem_response(error)


class Local:
    """What serves on one machine, as far as subscriptions know."""

    def require_filter(self, filter_: FilterInterface, function: str) -> None:
        """All of them."""

    async def reconcile(self) -> None:
        """There is nothing to be told."""


def client_of(node: EventNode, root: Path) -> httpx.AsyncClient:
    app = Starlette(
        routes=trusted([*events_routes.ROUTES, *invocations_routes.ROUTES]),
        exception_handlers={DsfnError: _problem},
    )
    app.state.services = SimpleNamespace(
        settings=Settings(data_dir=root),
        bodies=BodyReader(Settings(data_dir=root).limits),
        clock=node.clock,
        registry=node.registry,
        subscriptions=node.subscriptions,
        router=node.router,
        queue=node.queue,
        serving=Local(),
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node")


def test_events_are_accepted_and_their_results_can_be_asked_for(
    node: EventNode, handlers: Handlers, tmp_path: Path
) -> None:
    async def main() -> None:
        handlers.handlers["count"] = lambda event: {"words": 3}
        node.deploy("count")
        async with client_of(node, tmp_path) as client:
            filters = {"exact": {"type": "photo.uploaded"}, "suffix": {"subject": ".png"}}
            made = await client.post("/subscriptions", json={"function": "count", **filters})
            assert made.status_code == 201
            assert made.json()["exact"] == filters["exact"]
            listed = (await client.get("/subscriptions")).json()["subscriptions"]
            assert listed == [made.json()]
            headers = {k.decode(): v.decode() for k, v in binary_headers(subject="a.png").items()}
            accepted = await client.post("/events", headers=headers, content=b"hello")
            assert (accepted.status_code, accepted.json()) == (202, {"events": 1, "deliveries": 1})
            [id] = node.ids("count")
            queued = (await client.get(f"/invocations/{id}")).json()
            assert (queued["state"], queued["result"], queued["error"]) == ("queued", None, None)
            early = await client.get(f"/invocations/{id}/result")
            assert early.status_code == 409
            await drained(node)
            ended = (await client.get(f"/invocations/{id}")).json()
            assert (ended["state"], ended["attempts"]) == ("succeeded", 1)
            assert ended["finished_at"].startswith("20") and ended["function"] == "count"
            answer = await client.get(ended["result"])
            assert answer.json() == {"words": 3}
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["dsfn-invocation-id"] == id
            assert (await client.delete(f"/subscriptions/{listed[0]['id']}")).status_code == 204
            assert (await client.get("/subscriptions")).json() == {"subscriptions": []}

    asyncio.run(main())


def test_a_failed_invocation_shows_its_problem(
    node: EventNode, handlers: Handlers, tmp_path: Path
) -> None:
    def refuses(event: Event) -> None:
        raise InvalidInput("'a' is missing.", field="a")

    async def main() -> None:
        handlers.handlers["strict"] = refuses
        node.deploy("strict", ANYTHING)
        await node.router.accept([EVENT])
        await drained(node)
        id = node.ids("strict")[0]
        async with client_of(node, tmp_path) as client:
            found = (await client.get(f"/invocations/{id}")).json()
            assert (found["state"], found["result"]) == ("failed", None)
            assert (found["error"]["field"], found["error"]["instance"]) == ("a", id)
            assert (await client.get(f"/invocations/{id}/result")).status_code == 422
            assert (await client.get("/invocations/none")).status_code == 404

    asyncio.run(main())


def test_bad_requests_are_problems_that_name_the_field(node: EventNode, tmp_path: Path) -> None:
    async def main() -> None:
        node.deploy("a", ANYTHING)
        async with client_of(node, tmp_path) as client:
            batch = [to_document(EVENT), {"specversion": "1.0"}]
            refused = await client.post(
                "/events",
                content=json.dumps(batch),
                headers={"content-type": BATCH_CONTENT_TYPE},
            )
            problem = refused.json()
            assert (refused.status_code, problem["field"], problem["index"]) == (400, "id", 1)
            assert node.states("a") == []
            plain = await client.post("/events", json={"a": 1})
            assert plain.status_code == 415
            await node.router.accept([EVENT])
            headers = {k.decode(): v.decode() for k, v in binary_headers().items()}
            assert (await client.post("/events", headers=headers)).status_code == 409
            for document, field in (
                ({}, "function"),
                ({"function": "a"}, "exact"),
                ({"function": "a", "exact": []}, "exact"),
                ({"function": "a", "exact": {"Type": "x"}}, "exact.Type"),
                ({"function": "a", "prefix": {"type": ""}}, "prefix.type"),
                ({"function": "a", "sql": {}}, "sql"),
            ):
                bad = await client.post("/subscriptions", json=document)
                assert (bad.status_code, bad.json()["field"]) == (422, field)
            nobody = {"function": "nobody", "exact": {"type": "x"}}
            assert (await client.post("/subscriptions", json=nobody)).status_code == 404
            assert (await client.post("/subscriptions", content=b"{")).status_code == 400
            assert (await client.delete("/subscriptions/none")).status_code == 404

    asyncio.run(main())


# ---------------------------------------------------------------- kill -9


def test_kill_9_loses_no_event_and_counts_none_twice(tmp_path: Path) -> None:
    program = Path(__file__).with_name("event_node.py")
    acknowledged, first = 0, 1
    for lines in (3, 40, 90, 20, None):
        last = first + 200 if lines else acknowledged
        child = subprocess.Popen(
            [sys.executable, str(program), str(tmp_path), str(first), str(last)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout is not None
            for number, line in enumerate(child.stdout):
                if line.startswith("accepted"):
                    acknowledged = int(line.split()[1])
                if number + 1 == lines:
                    os.kill(child.pid, signal.SIGKILL)
        assert (child.returncode == 0) == (lines is None)
        # The last one that was acknowledged is sent again, as a careful client would.
        first = acknowledged
    _check_books(tmp_path, acknowledged)


def _check_books(root: Path, accepted: int) -> None:
    async def never(call: Call) -> Answer:
        raise AssertionError("nothing is left to run")

    node = EventNode(root, ManualClock(), never)
    squares = node.states("square")
    # Events that were stored and not yet acknowledged when the node was killed count, too.
    stored = node.connection.execute(
        "SELECT count(*) FROM accepted_events WHERE source = '/numbers'"
    )
    row = stored.fetchone()
    assert row is not None and isinstance(row[0], int) and row[0] >= accepted
    assert squares == ["succeeded"] * row[0]
    assert node.states("audit") == ["succeeded"] * row[0]
    rows = [r for r in node.ledger.between(0, 2**60) if r.status == "succeeded"]
    per_event = Counter((r.function, r.idempotency_key.partition("#")[0]) for r in rows)
    assert len(per_event) == 2 * row[0] and set(per_event.values()) == {1}
    ran = set((root / "runs").read_text().splitlines())
    numbers = {f"square /numbers n{number}" for number in range(1, accepted + 1)}
    assert numbers <= ran
    node.close()
