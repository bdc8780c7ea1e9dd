"""Usage is sent to others at least once, whatever they do."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest
from cloudevents.v1.http import from_dict
from ports import free_port
from usage_receiver import Receiver, receiving

from dsfn.billing.entry import entries_of
from dsfn.billing.exports.usage_event import usage_event
from dsfn.billing.interval import Interval
from dsfn.billing.sqlite import connect
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import UsageError
from dsfn.runtime.outbox import delivery, outbox
from dsfn.runtime.outbox.cursors import Cursors
from dsfn.runtime.outbox.outbox import Outbox, Sender
from dsfn.runtime.outbox.settings import MAX_SINKS, Format, SinkSettings, read_sinks

WITHIN_S = 20.0
NOON_US = 1_790_000_000_000_000


def call(id: str, **changes: Any) -> Usage:
    fields: dict[str, Any] = {
        "invocation_id": id, "tenant": "acme", "caller": "", "function": "embed",
        "revision": "embed-1", "device_class": "NVIDIA L4", "started_at_us": NOON_US,
        "busy_us": 100, "held_us": 200, "restore_us": 0, "status": "succeeded",
    }  # fmt: skip
    return Usage(**{**fields, **changes})


def calls(*numbers: int) -> list[Usage]:
    return [call(f"i-{number}") for number in numbers]


def idle(number: int) -> Interval:
    return Interval("idle", f"l/{number}", "l", "cpu", 1, "cpu", "f", "r", "", NOON_US, 5, "idle")


@dataclass(frozen=True, slots=True)
class Node:
    """As much of a node as sends usage."""

    ledger: SqliteLedger
    connection: apsw.Connection

    def sender(self, receiver: Receiver, name: str = "meter", format: Format = "batch") -> Sender:
        sink = SinkSettings(name, receiver.url, {"Authorization": "Bearer secret"}, format)
        cursors = Cursors(self.connection)
        return Sender(sink, self.ledger, cursors, first_delay_s=0.02, poll_s=0.02)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with (
        closing(SqliteLedger(tmp_path / "ledger.db")) as ledger,
        closing(connect(tmp_path / "node.db", "")) as connection,
    ):
        yield Node(ledger, connection)


@asynccontextmanager
async def running(*senders: Sender) -> Any:
    box = Outbox(senders)
    box.start()
    try:
        yield
    finally:
        await box.close()


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"Waited {WITHIN_S:g} s for {what}.")


def send_all(node: Node, receiver: Receiver, wanted: int, format: Format = "batch") -> Sender:
    """Runs a sender until the receiver has taken so many different events."""
    sender = node.sender(receiver, format=format)

    async def run() -> None:
        async with running(sender):
            await until(lambda: len(set(receiver.ids)) >= wanted, f"{wanted} events")
            # Its place is noted a moment after the receiver has answered.
            head = node.ledger.heads()[0]
            await until(lambda: sender.cursors.get(sender.sink.name, 0) == head, "the cursor")

    asyncio.run(run())
    return sender


def test_every_call_is_sent_in_order_and_the_rest_of_the_journal_is_not(node: Node) -> None:
    node.ledger.post([*calls(1, 2), idle(1)])
    node.ledger.post([idle(2), *calls(3)])
    with receiving(Receiver()) as receiver:
        send_all(node, receiver, 3)
    assert receiver.ids == ["i-1", "i-2", "i-3"]
    assert receiver.headers[0]["content-type"] == "application/cloudevents-batch+json"
    assert receiver.headers[0]["authorization"] == "Bearer secret"


def test_an_event_is_a_cloudevent_with_the_quantities_of_a_call(node: Node) -> None:
    node.ledger.post(
        [call("i-1", devices=2, restore_us=7, key_id="k-1", workflow="w", run="r", step="s")]
    )
    with receiving(Receiver()) as receiver:
        send_all(node, receiver, 1)
    event = from_dict(receiver.taken[0])
    assert (event["type"], event["source"], event["id"]) == (
        "dev.dsfn.usage",
        "/ledger/usage",
        "i-1",
    )
    assert (event["subject"], event["time"]) == ("acme", "2026-09-21T14:13:20Z")
    assert event.data == {
        "tenant": "acme", "key": "k-1", "function": "embed", "revision": "embed-1",
        "workflow": "w", "run": "r", "step": "s", "device_class": "NVIDIA L4", "devices": 2,
        "status": "succeeded", "month": "2026-09", "requests": 1, "busy_us": 200, "held_us": 400,
        "restore_us": 14,
    }  # fmt: skip


def test_the_documented_event_is_one(node: Node) -> None:
    page = Path(__file__).parents[2] / "docs" / "exports.md"
    found = re.search(r"```json\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    documented = json.loads(found[1])
    data = documented["data"]
    row = call(
        documented["id"],
        tenant=documented["subject"],
        revision=data["revision"],
        started_at_us=1_794_312_000_000_250,
        busy_us=data["busy_us"],
        held_us=data["held_us"],
        restore_us=data["restore_us"],
    )
    assert usage_event(entries_of(row, 0)[0]) == documented


def test_a_correction_takes_the_quantities_back_and_sends_the_right_ones(node: Node) -> None:
    node.ledger.post(calls(1))
    node.ledger.correct("i-1", call("i-1b", busy_us=50))
    with receiving(Receiver()) as receiver:
        send_all(node, receiver, 2)
    assert len({(event["source"], event["id"]) for event in receiver.taken}) == 3
    for name, total in (("requests", 1), ("busy_us", 50), ("held_us", 200)):
        assert sum(event["data"][name] for event in receiver.taken) == total


@pytest.mark.parametrize("status", ["rejected", "platform"])
def test_what_is_never_billed_has_a_type_of_its_own(node: Node, status: str) -> None:
    node.ledger.post([call("i-1", status=status)])
    with receiving(Receiver()) as receiver:
        send_all(node, receiver, 1)
    assert receiver.taken[0]["type"] == "dev.dsfn.usage.unbilled"


def test_single_events_have_a_request_each(node: Node) -> None:
    node.ledger.post(calls(1, 2, 3))
    with receiving(Receiver()) as receiver:
        send_all(node, receiver, 3, "single")
    assert [len(events) for events in receiver.requests] == [1, 1, 1]
    assert receiver.headers[0]["content-type"] == "application/cloudevents+json"


@pytest.mark.parametrize("fault", ["500", "503", "429", "401", "404", "400", "302", "cut", "lost"])
def test_a_receiver_that_fails_gets_everything_once_it_is_well(node: Node, fault: str) -> None:
    node.ledger.post(calls(*range(10)))
    with receiving(Receiver([fault] * 3)) as receiver:
        sender = send_all(node, receiver, 10)
    assert set(receiver.ids) == {f"i-{n}" for n in range(10)}
    assert sender.failures == 3
    # Whatever came twice is told by its id, and is the same.
    by_id: dict[str, Any] = {}
    for event in receiver.taken:
        assert by_id.setdefault(event["id"], event) == event


def test_a_receiver_that_is_down_misses_nothing(node: Node) -> None:
    receiver = Receiver(port=free_port())
    sender = node.sender(receiver)

    async def run() -> None:
        async with running(sender):
            node.ledger.post(calls(1, 2))
            await until(lambda: sender.failures >= 3, "failures")
            assert sender.pending == 2
            node.ledger.post(calls(3))
            with receiving(receiver):
                await until(lambda: len(receiver.taken) >= 3, "the events")
                await until(lambda: sender.pending == 0, "nothing to be left")

    asyncio.run(run())
    assert sorted(receiver.ids) == ["i-1", "i-2", "i-3"]


def test_a_node_goes_on_where_it_ended(node: Node) -> None:
    node.ledger.post(calls(1, 2))
    with receiving(Receiver()) as receiver:
        send_all(node, receiver, 2)
        node.ledger.post(calls(3))
        send_all(node, receiver, 3)
    assert receiver.ids == ["i-1", "i-2", "i-3"]


def test_receivers_have_places_of_their_own_and_do_not_wait_for_each_other(node: Node) -> None:
    node.ledger.post(calls(1, 2))
    with receiving(Receiver(always="hung")) as hung, receiving(Receiver()) as well:

        async def run() -> None:
            async with running(node.sender(hung, "hung"), node.sender(well, "well")):
                await until(lambda: hung.requests, "a request to hang")
                await until(lambda: len(well.taken) == 2, "the other's events")

        asyncio.run(run())
        assert hung.taken == []
    with receiving(Receiver()) as better:

        async def again() -> None:
            async with running(node.sender(better, "hung")):
                await until(lambda: len(better.taken) == 2, "the events")

        asyncio.run(again())


def test_a_receiver_that_hangs_is_given_up_after_a_time(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "REQUEST_TIMEOUT_S", 0.2)
    node.ledger.post(calls(1))
    with receiving(Receiver(["hung"])) as receiver:
        sender = send_all(node, receiver, 1)
    assert sender.failures == 1


def test_a_slow_receiver_holds_up_no_post(node: Node) -> None:
    with receiving(Receiver(always="slow")) as receiver:

        async def run() -> None:
            async with running(node.sender(receiver)):
                node.ledger.post(calls(0))
                await until(lambda: receiver.requests, "the first request")
                loop = asyncio.get_running_loop()
                start = loop.time()
                for number in range(1, 21):
                    node.ledger.post(calls(number))
                    await asyncio.sleep(0)
                assert loop.time() - start < 0.4
                await until(lambda: len(receiver.taken) == 21, "the events")

        asyncio.run(run())
    assert len(receiver.requests) < 21


def test_a_batch_is_no_larger_than_it_may_be(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_BATCH", 8)
    node.ledger.post(calls(*range(30)))
    with receiving(Receiver()) as receiver:
        sender = node.sender(receiver)
        sender._batch = 8

        async def run() -> None:
            async with running(sender):
                await until(lambda: len(receiver.taken) == 30, "the events")

        asyncio.run(run())
    assert [len(events) for events in receiver.requests] == [8, 8, 8, 6]


def test_a_batch_that_is_too_large_is_sent_in_parts(node: Node) -> None:
    node.ledger.post(calls(*range(40)))
    with receiving(Receiver(max_events=10)) as receiver:
        send_all(node, receiver, 40)
    assert receiver.ids == [f"i-{n}" for n in range(40)]


def test_an_event_that_is_refused_is_not_skipped_and_those_before_it_are_sent(node: Node) -> None:
    node.ledger.post(calls(*range(10)))
    with receiving(Receiver(poison="i-7")) as receiver:
        sender = node.sender(receiver)

        async def run() -> None:
            async with running(sender):
                await until(lambda: len(receiver.taken) == 7, "those before it")
                failures = sender.failures
                await until(lambda: sender.failures > failures + 1, "more attempts")
                assert sender.pending == 3
                receiver.poison = ""
                await until(lambda: len(receiver.taken) == 10, "the others")

        asyncio.run(run())
    assert receiver.ids == [f"i-{n}" for n in range(10)]


def test_a_receiver_says_when_it_wants_to_be_asked_again(node: Node) -> None:
    node.ledger.post(calls(1))
    with receiving(Receiver(["429"], retry_after="1")) as receiver:

        async def run() -> None:
            loop = asyncio.get_running_loop()
            start = loop.time()
            async with running(node.sender(receiver)):
                await until(lambda: receiver.taken, "the event")
            assert loop.time() - start >= 1

        asyncio.run(run())


def test_delays_grow_up_to_five_minutes(node: Node) -> None:
    sender = node.sender(Receiver(port=1))
    sender.first_delay_s, sender.random = 1.0, lambda: 0.0
    failure = delivery.NotDelivered("it answered 500")
    delays = [sender._delay_s(failure) for _ in range(12)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_ledger_that_cannot_be_read_is_waited_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.ledger.post(calls(1))
    heads, broken = node.ledger.heads, [True]

    def fail_first() -> dict[int, int]:
        if broken:
            broken.clear()
            raise apsw.BusyError("database is locked")
        return heads()

    monkeypatch.setattr(node.ledger, "heads", fail_first)
    with receiving(Receiver()) as receiver:
        send_all(node, receiver, 1)
    assert receiver.ids == ["i-1"]


def test_the_configuration_names_receivers() -> None:
    tables = {
        "openmeter": {"url": "https://meter.example/api/v1/events", "headers": {"X-Key": "k"}},
        "other": {"url": "http://127.0.0.1:9/", "format": "single"},
    }
    assert read_sinks(tables) == (
        SinkSettings("openmeter", "https://meter.example/api/v1/events", {"X-Key": "k"}, "batch"),
        SinkSettings("other", "http://127.0.0.1:9/", {}, "single"),
    )
    assert read_sinks({}) == ()
    assert "secret" not in repr(SinkSettings("a", "http://x/", {"k": "secret"}))


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ([], "billing.outbox must be a table"),
        ({"a": "http://x/"}, "billing.outbox.a must be a table"),
        ({"A b": {"url": "http://x/"}}, "small letters, digits and dashes"),
        ({"a": {}}, r"billing.outbox.a.url must be an http\(s\) URL"),
        ({"a": {"url": "ftp://x/"}}, r"must be an http\(s\) URL"),
        ({"a": {"url": "http://x/", "topic": "t"}}, "billing.outbox.a.topic is not a setting"),
        ({"a": {"url": "http://x/", "format": "xml"}}, "must be one of batch, single"),
        ({"a": {"url": "http://x/", "headers": {"a b": "c"}}}, "'a b' is not the name of a header"),
        ({"a": {"url": "http://x/", "headers": {"k": "a\nb"}}}, "headers.k must be a text"),
        ({f"r{n}": {"url": "http://x/"} for n in range(MAX_SINKS + 1)}, "more than 8 receivers"),
    ],
)
def test_a_receiver_that_makes_no_sense_is_refused(table: object, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        read_sinks(table)
