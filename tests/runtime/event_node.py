"""The parts of a node that events pass, on a real database, with a small stand-in for the spine.

Run as a program, it is a node that a test may kill: see `main`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

from revisions import make_revision

from dsfn.billing.sqlite import connect
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Status, Usage
from dsfn.functions.errors import FunctionError, HandlerRaised, RequestError
from dsfn.functions.event import Event
from dsfn.functions.interface import FilterInterface
from dsfn.functions.options import Options
from dsfn.runtime.answers import Answers
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.blobs.owners import BlobOwners
from dsfn.runtime.clock import Clock, SystemClock
from dsfn.runtime.events.delivery import Delivery
from dsfn.runtime.events.dispatcher import Dispatcher
from dsfn.runtime.events.outcomes import Outcomes
from dsfn.runtime.events.queue import MAX_QUEUED, Queue
from dsfn.runtime.events.router import Router
from dsfn.runtime.events.subscriptions import Subscriptions
from dsfn.runtime.model import Answer, Call, Charge, Phases
from dsfn.runtime.registry import Registry
from dsfn.runtime.workflows.registry import WorkflowRegistry

Behave = Callable[[Call], Awaitable[Answer]]
_NUMBERS = count()


class ManualClock:
    """A clock that a test moves."""

    def __init__(self, now_us: int = 1_700_000_000_000_000) -> None:
        self.at_us = now_us

    def now_us(self) -> int:
        return self.at_us

    def monotonic_ns(self) -> int:
        return self.at_us * 1000

    def advance(self, seconds: float) -> None:
        self.at_us += int(seconds * 1_000_000)


def new_id(now_us: int) -> str:
    return f"{now_us:014x}{next(_NUMBERS):06x}{os.getpid():06x}"


def answer_to(
    call: Call, body: bytes = b'"done"', content_type: str = "application/json"
) -> Answer:
    charge = Charge("cpu", 1000, 2000, 0, 7, "EUR")
    return Answer(
        call.id, f"{call.function}-0000000001", content_type, Phases(1, 2, 3, 4), charge, body
    )


def usage_of(call: Call, status: Status = "succeeded", error: str = "") -> Usage:
    return Usage(
        invocation_id=call.id,
        tenant=call.tenant,
        caller=call.caller,
        function=call.function,
        revision=f"{call.function}-0000000001",
        device_class="cpu",
        started_at_us=call.received_at_us,
        busy_us=1000,
        held_us=2000,
        restore_us=0,
        status=status,
        error=error,
        idempotency_key=call.idempotency_key or "",
    )


def kind_is(value: str) -> FilterInterface:
    return FilterInterface({"type": value}, {}, {})


_OPEN: dict[Path, SqliteLedger] = {}


def opened_anew(path: Path) -> SqliteLedger:
    """A ledger that a life before this one, which is over like that of a process that was killed,
    may have had open: it has one writer."""
    before = _OPEN.pop(path, None)
    if before is not None:
        before.close()
    _OPEN[path] = SqliteLedger(path)
    return _OPEN[path]


class EventNode:
    """One life of a node on `root`. A new one on the same place is what comes after a crash."""

    def __init__(
        self, root: Path, clock: Clock, behave: Behave, max_queued: int = MAX_QUEUED
    ) -> None:
        self.clock = clock
        self.behave = behave
        self.connection = connect(root / "node.db", "")
        self.ledger = opened_anew(root / "ledger.db")
        self.blobs = BlobStore(root / "blobs")
        self.registry = Registry(self.connection, clock)
        self.workflows = WorkflowRegistry(self.connection, clock)
        self.subscriptions = Subscriptions(self.registry, self.workflows)
        self.answers = Answers(self.connection, self.blobs, clock)
        self.queue = Queue(self.connection, self.blobs, clock, max_queued)
        self.router = Router(
            self.connection,
            self.queue,
            self.blobs,
            clock,
            self.subscriptions.all,
            new_id,
            "default",
            1 << 20,
            BlobOwners(self.connection, clock).add,
        )
        self.outcomes = Outcomes(
            self.connection, self.queue, self.router, self.blobs, clock, self.registry, lambda: 0.0
        )
        sweeps = (self.queue.prune, self.router.prune, self.answers.prune)
        self.dispatcher = Dispatcher(
            self.queue, self.outcomes, self.blobs, self.invoke, self.start_run, clock, sweeps
        )
        unposted = list(self.answers.unposted())
        self.ledger.post([usage for _, usage in unposted])
        self.answers.posted(key for key, _ in unposted)

    def deploy(self, name: str, *filters: FilterInterface, options: Options | None = None) -> None:
        revision = make_revision(1, name)
        self.registry.register(replace(revision, options=options or revision.options))
        for one in filters:
            self.registry.subscribe(name, one)

    async def invoke(self, call: Call) -> Answer:
        """What the spine does, in short."""
        claim = await self.answers.claim(call)
        if claim.answer is not None:
            if claim.unposted is not None:
                self.ledger.post([claim.unposted])
            return claim.answer
        try:
            answer = await self.behave(call)
        except (FunctionError, RequestError) as error:
            self.ledger.post([usage_of(call, "failed", type(error).__name__)])
            self.answers.refuse(claim, error)
            raise
        except BaseException:
            self.answers.release(claim)
            raise
        usage = usage_of(call)
        await self.answers.complete(claim, answer, usage)
        self.ledger.post([usage])
        self.answers.posted([claim.key])
        return answer

    async def start_run(self, delivery: Delivery, body: bytes) -> Answer:
        """A node that has no workflows."""
        raise NotImplementedError

    async def step(self) -> bool:
        """Takes one due delivery through; False when nothing is due."""
        for function in self.queue.due_functions():
            delivery = self.queue.claim(function)
            if delivery is not None:
                await self.dispatcher._call(delivery)
                return True
        return False

    def states(self, function: str) -> list[str]:
        """The states of a function's deliveries, in order of arrival."""
        found = self.connection.execute(
            "SELECT state FROM deliveries WHERE function = ? ORDER BY seq", (function,)
        )
        return [str(state) for (state,) in found]

    def ids(self, function: str) -> list[str]:
        """The ids of a function's deliveries, in order of arrival."""
        found = self.connection.execute(
            "SELECT id FROM deliveries WHERE function = ? ORDER BY seq", (function,)
        )
        return [str(id) for (id,) in found]

    def close(self) -> None:
        self.connection.close()
        self.ledger.close()


def number_event(number: int) -> Event:
    return Event(
        id=f"n{number}",
        source="/numbers",
        type="number",
        datacontenttype="application/json",
        data=str(number).encode(),
    )


async def serve(root: Path, first: int, last: int) -> None:
    """Accepts events `first` to `last`, says so on stdout, and delivers until nothing is left.

    Every run of a function is a line in `runs`; one in eight fails.
    """
    luck = random.Random(os.getpid())

    async def behave(call: Call) -> Answer:
        event = json.loads(call.body)
        with (root / "runs").open("a") as runs:
            runs.write(f"{call.function} {event['source']} {event['id']}\n")
        await asyncio.sleep(luck.random() * 0.003)
        if call.function == "square" and luck.random() < 0.125:
            raise HandlerRaised("Not today.", exception="ValueError")
        return answer_to(call, b"null" if call.function == "audit" else b"42")

    node = EventNode(root, SystemClock(), behave)
    patient = Options("square", retries=40, backoff_policy="linear", backoff_delay_s=0.002)
    node.deploy("square", kind_is("number"), options=patient)
    node.deploy("audit", FilterInterface({}, {"type": "dev.dsfn.function."}, {}))
    node.dispatcher.start()
    for number in range(first, last + 1):
        await node.router.accept([number_event(number)])
        say(f"accepted {number}")
        await asyncio.sleep(0)
    while node.queue.queued_count() or node.dispatcher._running:
        await asyncio.sleep(0.005)
    await node.dispatcher.close()
    node.close()
    say("empty")


def say(line: str) -> None:
    """A line for the test that reads along."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """`event_node.py ROOT FIRST LAST`"""
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))


if __name__ == "__main__":
    main()
