from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from event_node import EventNode, ManualClock, answer_to, kind_is, number_event
from hypothesis import given, settings
from hypothesis import strategies as st

from dsfn.functions.errors import (
    DsfnError,
    HandlerCrashed,
    HandlerRaised,
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    QueueFull,
    StorageFull,
    Unavailable,
)
from dsfn.functions.interface import FilterInterface
from dsfn.functions.retrying import MAX_BACKOFF_S
from dsfn.runtime.events.delivery import (
    MAX_POSTPONED_S,
    DeliveryState,
    RetryPolicy,
)
from dsfn.runtime.events.dispatcher import Dispatcher
from dsfn.runtime.events.queue import KEEP_DEAD_S, KEEP_RESULTS_S
from dsfn.runtime.events.stored import INLINE_BYTES
from dsfn.runtime.model import Answer, Call


def call(
    id: str = "c1", body: bytes = b"{}", function: str = "echo", key: str | None = None
) -> Call:
    return Call(id, function, body, "application/json", idempotency_key=key, caller="me")


class Behaviour:
    """A function's side: notes its calls, and fails as it is told, one error for each call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.errors: list[DsfnError | None] = []

    async def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return answer_to(call, b"null" if call.function == "audit" else call.body)


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def node(tmp_path: Path, clock: ManualClock, behaviour: Behaviour) -> Iterator[EventNode]:
    made = EventNode(tmp_path, clock, behaviour, max_queued=10)
    yield made
    made.close()


def test_an_asynchronous_call_is_run_and_its_answer_kept(
    node: EventNode, clock: ManualClock, behaviour: Behaviour
) -> None:
    async def main() -> None:
        assert await node.queue.put(call(body=b'{"a": 1}')) == "c1"
        assert node.queue.get("c1").state is DeliveryState.QUEUED
        assert node.queue.queued_count() == 1
        clock.advance(2)
        assert await node.step()
        found = node.queue.get("c1")
        assert (found.state, found.attempts) == (DeliveryState.SUCCEEDED, 1)
        assert found.revision == "echo-0000000001" and found.error is None
        assert found.finished_at_us == found.created_at_us + 2_000_000
        assert (await node.queue.result("c1")).body == b'{"a": 1}'
        assert not await node.step()
        assert behaviour.calls[0].caller == "me"
        row = node.ledger.usage("c1")
        assert row is not None and row.status == "succeeded"

    asyncio.run(main())


def test_large_bodies_and_answers_pass_through_the_blob_store(
    node: EventNode, behaviour: Behaviour, tmp_path: Path
) -> None:
    async def main() -> None:
        log = tmp_path / "node.db-wal"
        before_bytes = log.stat().st_size
        body = b'"' + b"x" * INLINE_BYTES + b'"'
        await node.queue.put(call(body=body))
        await node.step()
        assert behaviour.calls[0].body == body
        assert (await node.queue.result("c1")).body == body
        assert log.stat().st_size - before_bytes < INLINE_BYTES * 2

    asyncio.run(main())


def test_an_unknown_invocation_is_not_found(node: EventNode) -> None:
    with pytest.raises(NotFound):
        node.queue.get("nobody")
    with pytest.raises(NotFound):
        asyncio.run(node.queue.result("nobody"))


def test_a_repeat_of_a_key_is_the_same_invocation(node: EventNode) -> None:
    async def main() -> None:
        assert await node.queue.put(call("c1", key="key:k")) == "c1"
        assert await node.queue.put(call("c2", key="key:k")) == "c1"
        assert await node.queue.put(call("c3", key="key:k", function="other")) == "c3"
        with pytest.raises(IdempotencyMismatch):
            await node.queue.put(call("c4", b"[]", key="key:k"))
        assert node.queue.queued_count() == 2

    asyncio.run(main())


def test_a_full_queue_refuses_and_says_when_to_come_back(node: EventNode) -> None:
    async def main() -> None:
        for number in range(10):
            await node.queue.put(call(f"c{number}"))
        with pytest.raises(Unavailable) as refused:
            await node.queue.put(call("c10"))
        assert refused.value.fields["retry_after_s"]
        await node.step()
        await node.queue.put(call("c10"))
        assert node.queue.queued_count() == 10

    asyncio.run(main())


@pytest.mark.parametrize(
    "error", [HandlerRaised("No.", exception="E"), InvalidInput("No.", field="a")]
)
def test_an_asynchronous_call_has_one_attempt_when_the_function_fails_it(
    node: EventNode, clock: ManualClock, behaviour: Behaviour, error: DsfnError
) -> None:
    async def main() -> None:
        behaviour.errors = [error]
        await node.queue.put(call())
        await node.step()
        clock.advance(MAX_BACKOFF_S)
        assert not await node.step()
        found = node.queue.get("c1")
        assert (found.state, found.attempts) == (DeliveryState.FAILED, 1)
        assert found.error == error.to_document()
        with pytest.raises(NotFound):
            await node.queue.result("c1")

    asyncio.run(main())


def test_an_asynchronous_call_is_run_again_after_a_fault_of_the_platform(
    node: EventNode, clock: ManualClock, behaviour: Behaviour
) -> None:
    async def main() -> None:
        behaviour.errors = [HandlerCrashed("It died.", signal=9)] * 2
        await node.queue.put(call(key="key:k"))
        for _ in range(3):
            assert await node.step()
            clock.advance(10)
        found = node.queue.get("c1")
        assert (found.state, found.attempts) == (DeliveryState.SUCCEEDED, 3)
        # Each run has its own row in the books, and a repeat of the key finds the last.
        assert [c.id for c in behaviour.calls] == ["c1", "c1.2", "c1.3"]
        assert {c.idempotency_key for c in behaviour.calls} == {"key:k"}
        assert (await node.invoke(call("c9", key="key:k"))).call_id == "c1.3"

    asyncio.run(main())


def test_a_platform_that_keeps_failing_ends_the_call(
    node: EventNode, clock: ManualClock, behaviour: Behaviour
) -> None:
    async def main() -> None:
        behaviour.errors = [HandlerCrashed("It died.", signal=9)] * 9
        await node.queue.put(call())
        for _ in range(9):
            await node.step()
            clock.advance(10)
        found = node.queue.get("c1")
        assert (found.state, found.attempts) == (DeliveryState.FAILED, 4)

    asyncio.run(main())


def test_a_call_that_finds_no_room_waits_as_asked_and_is_not_an_attempt(
    node: EventNode, clock: ManualClock, behaviour: Behaviour
) -> None:
    async def main() -> None:
        behaviour.errors = [QueueFull("Full.", max_queue=1, retry_after_s=20)] * 6
        await node.queue.put(call())
        for _ in range(6):
            assert await node.step()
            clock.advance(19.9)
            assert not await node.step()
            clock.advance(0.2)
        assert await node.step()
        found = node.queue.get("c1")
        assert (found.state, found.attempts) == (DeliveryState.SUCCEEDED, 1)

    asyncio.run(main())


def test_a_call_is_not_postponed_for_ever(
    node: EventNode, clock: ManualClock, behaviour: Behaviour
) -> None:
    async def main() -> None:
        behaviour.errors = [Unavailable("Never.", retry_after_s=1)] * 3
        await node.queue.put(call())
        await node.step()
        assert node.queue.get("c1").state is DeliveryState.QUEUED
        clock.advance(MAX_POSTPONED_S)
        await node.step()
        assert node.queue.get("c1").state is DeliveryState.FAILED

    asyncio.run(main())


def test_what_ran_when_the_node_was_killed_is_queued_again(
    node: EventNode, clock: ManualClock, behaviour: Behaviour, tmp_path: Path
) -> None:
    async def main() -> None:
        await node.queue.put(call())
        assert node.queue.claim("echo") is not None
        assert node.queue.get("c1").state is DeliveryState.RUNNING
        after = EventNode(tmp_path, clock, behaviour)
        assert after.queue.queued_count() == 0
        assert after.queue.recover() == 1
        assert after.queue.recover() == 0
        assert after.queue.queued_count() == 1
        assert await after.step()
        assert after.queue.get("c1").state is DeliveryState.SUCCEEDED
        after.close()

    asyncio.run(main())


def test_a_sweep_leaves_alone_what_runs(node: EventNode) -> None:
    async def main() -> None:
        await node.queue.put(call("c1"))
        await node.queue.put(call("c2"))
        node.queue.claim("echo")
        node.queue.claim("echo")
        assert node.queue.recover({"c2": None}) == 1
        assert node.queue.get("c1").state is DeliveryState.QUEUED
        assert node.queue.get("c2").state is DeliveryState.RUNNING

    asyncio.run(main())


def test_results_are_kept_a_day_and_the_dead_longer(node: EventNode, clock: ManualClock) -> None:
    async def main() -> None:
        for id in ("good", "bad", "waits"):
            await node.queue.put(call(id))
        for id in ("good", "bad"):
            delivery = node.queue.claim("echo")
            assert delivery is not None
            if id == "good":
                await node.outcomes.succeeded(delivery, answer_to(call(id)))
            else:
                node.queue.bury(id, DsfnError("No."), 1)
        clock.advance(KEEP_RESULTS_S + 1)
        assert node.queue.prune() == 1
        assert node.queue.get("bad").state is DeliveryState.DEAD and node.queue.dead_count() == 1
        clock.advance(KEEP_DEAD_S)
        assert node.queue.prune() == 1
        assert node.queue.get("waits").state is DeliveryState.QUEUED
        assert (node.queue.queued_count(), node.queue.dead_count()) == (1, 0)

    asyncio.run(main())


@pytest.mark.parametrize("policy", ["linear", "exponential"])
@given(failed=st.integers(1, 10_000), luck=st.floats(0, 1, exclude_max=True))
def test_backoff_grows_within_its_bounds(policy: str, failed: int, luck: float) -> None:
    retries = RetryPolicy(backoff_policy="linear" if policy == "linear" else "exponential")
    whole_us = retries.delay_us(failed, lambda: 0.0)
    assert whole_us // 2 <= retries.delay_us(failed, lambda: luck) <= whole_us
    assert whole_us <= retries.delay_us(failed + 1, lambda: 0.0) <= MAX_BACKOFF_S * 1_000_000
    if failed <= 5:
        assert whole_us == 1_000_000 * (failed if policy == "linear" else 2 ** (failed - 1))


class Gate:
    """A function's side that holds every call until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.began: list[str] = []
        self.most: Counter[str] = Counter()
        self.now: Counter[str] = Counter()

    async def __call__(self, call: Call) -> Answer:
        self.began.append(call.function)
        self.now[call.function] += 1
        self.most[call.function] = max(self.most[call.function], self.now[call.function])
        try:
            await self.open.wait()
            return answer_to(call)
        finally:
            self.now[call.function] -= 1


async def until(holds: object) -> None:
    """Waits until `holds()`; the test's own time limit ends it."""
    assert callable(holds)
    while not holds():
        await asyncio.sleep(0.002)


def dispatcher_of(node: EventNode, gate: Gate, per_function: int, total: int) -> Dispatcher:
    return Dispatcher(
        node.queue,
        node.outcomes,
        node.blobs,
        gate,
        node.start_run,
        node.clock,
        (),
        per_function,
        total,
    )


def test_a_slow_function_does_not_hold_up_another(tmp_path: Path, clock: ManualClock) -> None:
    async def main() -> None:
        gate = Gate()
        node = EventNode(tmp_path, clock, gate)
        dispatcher = dispatcher_of(node, gate, 2, 100)
        for number in range(20):
            await node.queue.put(call(f"s{number}", function="slow"))
        await node.queue.put(call("q1", function="quick"))
        dispatcher.start()
        await until(lambda: "quick" in gate.began)
        await asyncio.sleep(0.01)
        assert gate.began.count("slow") == 2
        gate.open.set()
        await until(lambda: not node.queue.queued_count() and not dispatcher._running)
        assert gate.most == {"slow": 2, "quick": 1}
        await dispatcher.close()
        node.close()

    asyncio.run(main())


def test_functions_take_turns_for_the_places_of_the_node(
    tmp_path: Path, clock: ManualClock
) -> None:
    async def main() -> None:
        gate = Gate()
        node = EventNode(tmp_path, clock, gate)
        dispatcher = dispatcher_of(node, gate, 10, 4)
        for name in ("a", "b", "c"):
            for number in range(6):
                await node.queue.put(call(f"{name}{number}", function=name))
        dispatcher.start()
        await until(lambda: len(gate.began) == 4)
        assert sorted(gate.began) == ["a", "a", "b", "c"]
        gate.open.set()
        await until(lambda: len(gate.began) == 18 and not dispatcher._running)
        assert max(gate.most.values()) <= 4
        for name in ("a", "b", "c"):
            assert node.ids(name) == [f"{name}{number}" for number in range(6)]
        await dispatcher.close()
        node.close()

    asyncio.run(main())


def test_a_node_that_stops_queues_again_what_does_not_end_in_time(
    tmp_path: Path, clock: ManualClock
) -> None:
    async def main() -> None:
        gate = Gate()
        node = EventNode(tmp_path, clock, gate)
        node.dispatcher.start()
        await node.queue.put(call())
        await until(lambda: gate.began)
        await node.dispatcher.close(grace_s=0.01)
        found = node.queue.get("c1")
        assert (found.state, found.attempts) == (DeliveryState.QUEUED, 0)
        assert gate.now["echo"] == 0
        await node.dispatcher.close()
        node.close()

    asyncio.run(main())


def test_a_fault_of_the_node_postpones_one_delivery_and_is_no_attempt(
    tmp_path: Path, clock: ManualClock
) -> None:
    async def behave(call: Call) -> Answer:
        if call.id == "c1":
            raise ZeroDivisionError("a fault of our own")
        return answer_to(call)

    async def main() -> None:
        node = EventNode(tmp_path, clock, behave)
        node.dispatcher.start()
        await node.queue.put(call("c1"))
        await node.queue.put(call("c2"))
        await until(lambda: node.queue.get("c2").state is DeliveryState.SUCCEEDED)
        await until(lambda: node.queue.get("c1").error is not None)
        found = node.queue.get("c1")
        assert (found.state, found.attempts) == (DeliveryState.QUEUED, 0)
        assert found.error is not None and "ZeroDivisionError" in found.error["message"]
        clock.advance(10)
        node.dispatcher.wake()
        await until(lambda: node.queue.get("c1").state is DeliveryState.SUCCEEDED)
        await node.dispatcher.close()
        node.close()

    asyncio.run(main())


def test_an_outcome_that_finds_the_disk_full_is_made_up_for(
    node: EventNode, clock: ManualClock, behaviour: Behaviour
) -> None:
    async def main() -> None:
        await node.queue.put(call())
        delivery = node.queue.claim("echo")
        assert delivery is not None
        pages = node.connection.execute("PRAGMA page_count").fetchone()
        assert pages is not None
        node.connection.execute(f"PRAGMA max_page_count = {pages[0]}")
        with pytest.raises(StorageFull):
            large = answer_to(call(), b"x" * INLINE_BYTES, "text/plain")
            await node.outcomes.succeeded(delivery, large)
        assert node.queue.get("c1").state is DeliveryState.RUNNING
        node.connection.execute("PRAGMA max_page_count = 1000000")
        node.dispatcher.start()
        await until(lambda: node.queue.get("c1").state is DeliveryState.SUCCEEDED)
        assert len(behaviour.calls) == 1
        await node.dispatcher.close()

    asyncio.run(main())


class Crash(BaseException):
    """The node is gone at this point."""


POINTS = ("claimed", "ran", "answered", "stored", "nowhere")
ENDS = ("answers", "raises", "crashes", "finds no room")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(0, 3), st.just("")),
        st.tuples(st.just("deliver"), st.sampled_from(ENDS), st.sampled_from(POINTS)),
        st.tuples(st.just("wait"), st.just(4), st.just("")),
    ),
    min_size=2,
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(steps=STEPS)
def test_whatever_crashes_no_event_is_lost_and_none_counts_twice(
    steps: list[tuple[str, int | str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_lives(Path(directory), steps))


async def _lives(root: Path, steps: list[tuple[str, int | str, str]]) -> None:
    clock = ManualClock()
    node = _new_life(root, clock, "answers", "nowhere")
    node.deploy("square", kind_is("number"))
    node.deploy("cube", kind_is("number"))
    node.deploy("audit", FilterInterface({}, {"type": "dev.dsfn.function."}, {}))
    accepted: set[int] = set()
    for step, what, point in steps:
        if step == "event" and isinstance(what, int):
            await node.router.accept([number_event(what)])
            accepted.add(what)
        elif step == "wait":
            clock.advance(4)
        else:
            try:
                node.behave = _behave(str(what), point)
                await _step(node, point)
            except Crash:
                node.close()
                node = _new_life(root, clock, "answers", "nowhere")
    node.close()
    node = _new_life(root, clock, "answers", "nowhere")
    for _ in range(10):
        while await node.step():
            pass
        clock.advance(100)
    _check(node, len(accepted))
    node.close()


def _new_life(root: Path, clock: ManualClock, end: str, point: str) -> EventNode:
    node = EventNode(root, clock, _behave(end, point))
    node.queue.recover()
    return node


def _behave(end: str, point: str) -> Behaviour:
    behaviour = Behaviour()
    errors: dict[str, DsfnError | None] = {
        "answers": None,
        "raises": HandlerRaised("No."),
        "crashes": HandlerCrashed("No."),
        "finds no room": Unavailable("No.", retry_after_s=1),
    }
    behaviour.errors = [errors[end]]
    return behaviour


async def _step(node: EventNode, point: str) -> None:
    """`EventNode.step`, with a crash at `point`."""
    for function in node.queue.due_functions():
        delivery = node.queue.claim(function)
        assert delivery is not None
        if point == "claimed":
            raise Crash
        call = delivery.call(delivery.body.inline or b"", node.clock.now_us(), 0)
        if point == "ran":
            # It ran, or had run, and the node was gone before it heard of the answer.
            with suppress(DsfnError):
                await node.answers.claim(call)
            raise Crash
        try:
            answer = await node.invoke(call)
            if point == "answered":
                raise Crash
            await node.outcomes.succeeded(delivery, answer)
        except DsfnError as error:
            if point == "answered":
                raise Crash from None
            await node.outcomes.failed(delivery, error)
        if point == "stored":
            raise Crash
        return


def _check(node: EventNode, accepted: int) -> None:
    rows = node.connection.execute(
        "SELECT function, state, count(*) FROM deliveries GROUP BY function, state"
    )
    found = {(str(f), str(s)): n for f, s, n in rows}
    ended = {
        name: found.get((name, "succeeded"), 0) + found.get((name, "dead"), 0)
        for name in ("square", "cube", "audit")
    }
    assert sum(found.values()) == sum(ended.values()), "something never ended"
    assert ended["square"] == ended["cube"] == accepted
    # Each outcome of the two is one event, and so is each of audit's own failures.
    assert ended["audit"] == 2 * accepted + found.get(("audit", "dead"), 0)
    keys = Counter(
        (row.function, row.idempotency_key.partition("#")[0])
        for row in node.ledger.between(0, 2**60)
        if row.status == "succeeded"
    )
    assert all(number == 1 for number in keys.values())
    for name in ("square", "cube", "audit"):
        assert sum(f == name for f, _ in keys) == found.get((name, "succeeded"), 0)
