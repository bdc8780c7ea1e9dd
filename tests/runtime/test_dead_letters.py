"""Events that were given up, and their second chance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from event_node import EventNode, ManualClock, answer_to, kind_is, number_event

from dsfn.functions.errors import DsfnError, HandlerRaised, NotFound, QueueFull, Unavailable
from dsfn.runtime.events.dead import DeadLetters
from dsfn.runtime.events.delivery import MAX_POSTPONED_S, DeliveryState
from dsfn.runtime.events.queue import KEEP_DEAD_S
from dsfn.runtime.model import Answer, Call

NO = HandlerRaised("Not today.", exception="ValueError")


class Moody:
    """A function that fails until it is told not to."""

    def __init__(self) -> None:
        self.error: DsfnError | None = NO
        self.answer = (b"null", "application/json")
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return answer_to(call, *self.answer)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def moody() -> Moody:
    return Moody()


@pytest.fixture
def node(tmp_path: Path, clock: ManualClock, moody: Moody) -> Iterator[EventNode]:
    made = EventNode(tmp_path, clock, moody, max_queued=10)
    made.deploy("square", kind_is("number"))
    yield made
    made.close()


@pytest.fixture
def dead(node: EventNode, clock: ManualClock) -> DeadLetters:
    return DeadLetters(node.connection, node.queue, node.blobs, clock)


async def deliver(node: EventNode, clock: ManualClock) -> None:
    """Until nothing is due, however long that is waited for."""
    while await node.step() or node.queue.queued_count():
        clock.advance(60)


async def kill(node: EventNode, clock: ManualClock, *numbers: int) -> None:
    for number in numbers:
        await node.router.accept([number_event(number)])
    await deliver(node, clock)


def test_a_dead_event_is_listed_with_its_reason_and_shown_with_its_data(
    node: EventNode, clock: ManualClock, dead: DeadLetters
) -> None:
    async def main() -> None:
        await kill(node, clock, 7)
        (letter,) = dead.list(10)
        assert (letter.name, letter.attempts, letter.error) == ("square", 4, NO.to_document())
        assert dead.get(letter.id) == letter
        event = await dead.event(letter.id)
        assert (event.id, event.data) == ("n7", b"7")

    asyncio.run(main())


def test_dead_events_are_listed_page_by_page_those_that_came_last_first(
    node: EventNode, clock: ManualClock, dead: DeadLetters
) -> None:
    async def main() -> None:
        await kill(node, clock, 1, 2, 3)
        first = dead.list(2)
        rest = dead.list(2, first[-1].seq)
        assert [(await dead.event(each.id)).id for each in (*first, *rest)] == ["n3", "n2", "n1"]

    asyncio.run(main())


def test_a_replayed_event_is_delivered_again_and_is_dead_no_more(
    node: EventNode, clock: ManualClock, moody: Moody, dead: DeadLetters
) -> None:
    async def main() -> None:
        await kill(node, clock, 7)
        (letter,) = dead.list(10)
        moody.error = None
        dead.replay(letter.id)
        assert dead.list(10) == []
        await deliver(node, clock)
        assert node.queue.get(letter.id).state is DeliveryState.SUCCEEDED
        assert node.queue.dead_count() == 0
        assert len(moody.calls) == 5

    asyncio.run(main())


def test_a_replayed_event_has_as_many_attempts_as_a_new_one(
    node: EventNode, clock: ManualClock, moody: Moody, dead: DeadLetters
) -> None:
    async def main() -> None:
        await kill(node, clock, 7)
        for times in (2, 3):
            (letter,) = dead.list(10)
            dead.replay(letter.id)
            await deliver(node, clock)
            assert len(moody.calls) == dead.get(letter.id).attempts == 4 * times
        # One of them may have succeeded where nobody heard of it: all have the event's own key.
        assert len({call.idempotency_key for call in moody.calls}) == 1

    asyncio.run(main())


def test_after_an_answer_that_cannot_go_on_a_replay_runs_the_function_again(
    node: EventNode, clock: ManualClock, moody: Moody, dead: DeadLetters
) -> None:
    async def main() -> None:
        moody.error, moody.answer = None, (b"no event", "application/cloudevents+json")
        await kill(node, clock, 7)
        (letter,) = dead.list(10)
        dead.replay(letter.id)
        moody.error = NO
        await deliver(node, clock)
        dead.replay(letter.id)
        moody.error, moody.answer = None, (b"null", "application/json")
        await deliver(node, clock)
        assert node.queue.get(letter.id).state is DeliveryState.SUCCEEDED
        own, *others = (call.idempotency_key for call in moody.calls)
        assert others == [f"{own}#2"] * 5

    asyncio.run(main())


def test_a_replayed_event_that_cannot_be_served_waits_as_long_as_a_new_one(
    node: EventNode, clock: ManualClock, moody: Moody, dead: DeadLetters
) -> None:
    async def main() -> None:
        await kill(node, clock, 7)
        clock.advance(2 * MAX_POSTPONED_S)
        (letter,) = dead.list(10)
        moody.error = QueueFull("Later.", retry_after_s=1)
        dead.replay(letter.id)
        await node.step()
        assert node.queue.get(letter.id).state is DeliveryState.QUEUED
        moody.error = None
        await deliver(node, clock)
        assert node.queue.get(letter.id).state is DeliveryState.SUCCEEDED

    asyncio.run(main())


def test_what_is_not_dead_cannot_be_replayed(
    node: EventNode, clock: ManualClock, dead: DeadLetters
) -> None:
    async def main() -> None:
        await node.router.accept([number_event(1)])
        (waiting,) = node.ids("square")
        for id_ in (waiting, "nobody"):
            with pytest.raises(NotFound):
                dead.replay(id_)
            with pytest.raises(NotFound):
                dead.get(id_)
        assert node.queue.get(waiting).state is DeliveryState.QUEUED

    asyncio.run(main())


def test_a_full_queue_takes_no_replay_and_the_letter_stays(
    node: EventNode, clock: ManualClock, dead: DeadLetters
) -> None:
    async def main() -> None:
        await kill(node, clock, 7)
        (letter,) = dead.list(10)
        await node.router.accept([number_event(100 + number) for number in range(10)])
        with pytest.raises(Unavailable):
            dead.replay(letter.id)
        assert dead.list(10) == [letter]

    asyncio.run(main())


def test_a_replayed_event_is_forgotten_as_others_are(
    node: EventNode, clock: ManualClock, dead: DeadLetters
) -> None:
    async def main() -> None:
        await kill(node, clock, 7)
        (letter,) = dead.list(10)
        dead.replay(letter.id)
        await deliver(node, clock)
        clock.advance(KEEP_DEAD_S + 60)
        assert node.queue.prune() == 1
        assert dead.list(10) == []
        assert not node.connection.execute("SELECT * FROM delivery_replays").fetchall()

    asyncio.run(main())
