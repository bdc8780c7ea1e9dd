from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from event_node import EventNode, ManualClock, answer_to, usage_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dsfn.functions.errors import (
    DsfnError,
    HandlerCrashed,
    HandlerRaised,
    HandlerTimedOut,
    IdempotencyMismatch,
    InvalidInput,
    StorageFull,
    Unavailable,
)
from dsfn.runtime.answers import KEEP_KEYS_S, WAIT_S
from dsfn.runtime.events.stored import INLINE_BYTES
from dsfn.runtime.model import Answer, Call


def call(id: str = "c1", body: bytes = b"{}", key: str = "key:1", function: str = "echo") -> Call:
    return Call(id, function, body, "application/json", idempotency_key=key, received_at_us=1)


async def never(call: Call) -> Answer:
    raise AssertionError("it must not run")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[EventNode]:
    made = EventNode(tmp_path, ManualClock(), never)
    yield made
    made.close()


def reopened(node: EventNode, root: Path) -> EventNode:
    """The node after `kill -9`: nothing of the old one's memory is left."""
    node.close()
    return EventNode(root, node.clock, node.behave)


def test_a_repeat_gets_the_first_answer(node: EventNode) -> None:
    async def main() -> None:
        claim = await node.answers.claim(call())
        assert claim.answer is None and claim.call_id == "c1"
        first = answer_to(call(), b'"first"')
        await node.answers.complete(claim, first, usage_of(call()))
        again = await node.answers.claim(call("c2"))
        assert again.answer == replace(first, replayed=True)
        assert again.call_id == "c1"

    asyncio.run(main())


def test_a_large_answer_comes_back_too(node: EventNode, tmp_path: Path) -> None:
    async def main() -> None:
        body = bytes(range(256)) * (INLINE_BYTES // 256) + b"!"
        claim = await node.answers.claim(call())
        first = answer_to(call(), body, "image/png")
        await node.answers.complete(claim, first, usage_of(call()))
        again = await node.answers.claim(call("c2"))
        assert again.answer is not None and again.answer.body == body
        assert list((tmp_path / "blobs").rglob("*.type"))

    asyncio.run(main())


@pytest.mark.parametrize("changed", [call(body=b"[]"), replace(call(), content_type="text/plain")])
def test_a_key_with_another_request_is_refused(node: EventNode, changed: Call) -> None:
    async def main() -> None:
        claim = await node.answers.claim(call())
        with pytest.raises(IdempotencyMismatch) as refused:
            await node.answers.claim(changed)
        assert refused.value.fields["key"] == "1"
        await node.answers.complete(claim, answer_to(call()), usage_of(call()))
        with pytest.raises(IdempotencyMismatch):
            await node.answers.claim(changed)

    asyncio.run(main())


def test_a_key_belongs_to_one_function_of_one_tenant(node: EventNode) -> None:
    async def main() -> None:
        for other in (call(), call(function="other"), replace(call(), tenant="other")):
            assert (await node.answers.claim(other)).answer is None

    asyncio.run(main())


def test_repeats_at_the_same_time_run_once(node: EventNode) -> None:
    runs: list[str] = []

    async def behave(call: Call) -> Answer:
        runs.append(call.id)
        await asyncio.sleep(0.01)
        return answer_to(call)

    async def main() -> None:
        node.behave = behave
        calls = [node.invoke(call(f"c{number}")) for number in range(20)]
        answers = await asyncio.gather(*calls)
        assert runs == ["c0"]
        assert [a.call_id for a in answers] == ["c0"] * 20
        assert [a.replayed for a in answers] == [False] + [True] * 19

    asyncio.run(main())


def test_when_the_first_call_comes_to_nothing_one_of_those_that_wait_runs(node: EventNode) -> None:
    runs: list[str] = []

    async def behave(call: Call) -> Answer:
        runs.append(call.id)
        await asyncio.sleep(0.01)
        if call.id == "c0":
            raise Unavailable("No room.", retry_after_s=1)
        return answer_to(call)

    async def main() -> None:
        node.behave = behave
        calls = [node.invoke(call(f"c{number}")) for number in range(5)]
        first, *rest = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(first, Unavailable)
        assert runs == ["c0", "c1"]
        assert all(isinstance(a, Answer) and a.call_id == "c1" for a in rest)

    asyncio.run(main())


def test_the_wait_for_a_first_call_has_an_end(node: EventNode) -> None:
    async def main() -> None:
        await node.answers.claim(call())
        with pytest.raises(Unavailable) as refused:
            await node.answers.claim(call("c2"), wait_s=0.01)
        assert refused.value.fields["retry_after_s"]

    assert WAIT_S > 0
    asyncio.run(main())


@pytest.mark.parametrize(
    "error",
    [
        HandlerRaised("No.", exception="ValueError"),
        HandlerTimedOut("No.", timeout_s=1),
        InvalidInput("No.", field="x"),
    ],
)
def test_the_functions_own_error_is_a_first_answer(
    node: EventNode, tmp_path: Path, error: DsfnError
) -> None:
    async def main(node: EventNode) -> None:
        with pytest.raises(type(error)) as raised:
            await node.answers.claim(call("c2"))
        first = {**error.to_document(), "fields": {**error.fields, "replayed": True}}
        assert raised.value.to_document() == first

    async def refuse() -> None:
        node.answers.refuse(await node.answers.claim(call()), error)

    asyncio.run(refuse())
    asyncio.run(main(node))
    asyncio.run(main(reopened(node, tmp_path)))


@pytest.mark.parametrize(
    "error", [HandlerRaised("No.", exception="ValueError"), InvalidInput("No.", field="x")]
)
def test_an_event_that_failed_is_tried_again(node: EventNode, error: DsfnError) -> None:
    async def main() -> None:
        event = call(key="event:1:a1:b4:echo")
        node.answers.refuse(await node.answers.claim(event), error)
        claim = await node.answers.claim(replace(event, id="c2"))
        assert claim.answer is None and claim.call_id == "c2"
        await node.answers.complete(claim, answer_to(event), usage_of(event))
        assert (await node.answers.claim(replace(event, id="c3"))).answer is not None

    asyncio.run(main())


@pytest.mark.parametrize("error", [HandlerCrashed("It died."), Unavailable("Busy.")])
def test_after_a_failure_of_the_platform_the_key_is_free(node: EventNode, error: DsfnError) -> None:
    async def main() -> None:
        node.answers.refuse(await node.answers.claim(call()), error)
        claim = await node.answers.claim(call("c2"))
        assert claim.answer is None and claim.call_id == "c2"

    asyncio.run(main())


def test_a_claim_that_a_crash_left_behind_is_run_by_the_next_call(
    node: EventNode, tmp_path: Path
) -> None:
    async def main() -> None:
        await node.answers.claim(call())
        after = reopened(node, tmp_path)
        with pytest.raises(IdempotencyMismatch):
            await after.answers.claim(call(body=b"other"))
        claim = await after.answers.claim(call("c2"))
        assert claim.answer is None
        await after.answers.complete(claim, answer_to(call("c2")), usage_of(call("c2")))

    asyncio.run(main())


def test_a_crash_before_the_ledger_has_the_row_is_mended_at_the_start(
    node: EventNode, tmp_path: Path
) -> None:
    async def main() -> None:
        claim = await node.answers.claim(call())
        await node.answers.complete(claim, answer_to(call()), usage_of(call()))
        repeat = await node.answers.claim(call("c2"))
        assert repeat.unposted == usage_of(call())
        after = reopened(node, tmp_path)
        assert after.ledger.usage("c1") == usage_of(call())
        assert list(after.answers.unposted()) == []
        assert (await after.answers.claim(call("c3"))).unposted is None
        again = reopened(after, tmp_path)
        assert len(list(again.ledger.between(0, 2))) == 1

    asyncio.run(main())


def test_a_caller_that_goes_while_a_large_answer_is_stored_loses_nothing(node: EventNode) -> None:
    async def main() -> None:
        claim = await node.answers.claim(call())
        answer = answer_to(call(), b"x" * (INLINE_BYTES + 1), "text/plain")
        task = asyncio.create_task(node.answers.complete(claim, answer, usage_of(call())))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        again = await node.answers.claim(call("c2"))
        assert again.answer == replace(answer, replayed=True)
        assert again.unposted == usage_of(call())

    asyncio.run(main())


def test_an_answer_that_finds_the_disk_full_leaves_its_key_free(node: EventNode) -> None:
    async def main() -> None:
        claim = await node.answers.claim(call())
        pages = node.connection.execute("PRAGMA page_count").fetchone()
        assert pages is not None
        node.connection.execute(f"PRAGMA max_page_count = {pages[0]}")
        answer = answer_to(call(), b"x" * INLINE_BYTES, "text/plain")
        with pytest.raises(StorageFull):
            await node.answers.complete(claim, answer, usage_of(call()))
        node.connection.execute("PRAGMA max_page_count = 1000000")
        again = await node.answers.claim(call("c2"))
        assert again.answer is None

    asyncio.run(main())


def test_keys_are_kept_two_months_and_those_without_a_ledger_row_longer(node: EventNode) -> None:
    clock = node.clock
    assert isinstance(clock, ManualClock)

    async def main() -> None:
        for key in ("posted", "unposted"):
            claim = await node.answers.claim(call(key, key=key))
            await node.answers.complete(claim, answer_to(call()), usage_of(call(key, key=key)))
            if key == "posted":
                node.answers.posted([claim.key])
        clock.advance(KEEP_KEYS_S)
        assert node.answers.prune() == 0
        clock.advance(1)
        assert node.answers.prune() == 1
        assert [key for (_, _, key), _ in node.answers.unposted()] == ["unposted"]

    assert KEEP_KEYS_S >= 60 * 24 * 3600
    asyncio.run(main())


class Crash(BaseException):
    """The node is gone at this point."""


POINTS = ("before the run", "after the run", "after the answer", "after the row", "nowhere")
OUTCOMES = ("answers", "raises", "crashes")
STEPS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(POINTS), st.sampled_from(OUTCOMES)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(steps=STEPS)
def test_whatever_crashes_and_repeats_one_key_is_one_success(
    steps: list[tuple[str, str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_lives(Path(directory), steps))


async def _lives(root: Path, steps: list[tuple[str, str, str]]) -> None:
    clock = ManualClock()
    node = EventNode(root, clock, never)
    given_answers: dict[str, set[bytes]] = {"a": set(), "b": set()}
    for number, (key, point, outcome) in enumerate(steps):
        try:
            body = await _one_call(node, call(f"c{number}", key=key), point, outcome)
            given_answers[key].add(body)
        except Crash:
            node = reopened(node, root)
        except DsfnError:
            pass
    node = reopened(node, root)
    rows = [row for row in node.ledger.between(0, 2) if row.status == "succeeded"]
    successes = Counter(row.idempotency_key for row in rows)
    for key, bodies in given_answers.items():
        assert len(bodies) <= 1, "repeats got different answers"
        assert successes[key] <= 1
        assert successes[key] == 1 or not bodies, "a success without its row"
    node.close()


async def _one_call(node: EventNode, call: Call, point: str, outcome: str) -> bytes:
    """`EventNode.invoke`, with a crash at `point`."""

    def reach(here: str) -> None:
        if here == point:
            raise Crash

    claim = await node.answers.claim(call)
    if claim.answer is not None:
        if claim.unposted is not None:
            node.ledger.post([claim.unposted])
        return claim.answer.body
    reach("before the run")
    if outcome != "answers":
        error = HandlerRaised("No.") if outcome == "raises" else HandlerCrashed("No.")
        node.ledger.post([usage_of(call, "failed", type(error).__name__)])
        reach("after the run")
        node.answers.refuse(claim, error)
        raise error
    reach("after the run")
    answer, usage = answer_to(call, call.id.encode()), usage_of(call)
    await node.answers.complete(claim, answer, usage)
    reach("after the answer")
    node.ledger.post([usage])
    reach("after the row")
    node.answers.posted([claim.key])
    return answer.body
