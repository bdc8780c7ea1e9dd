"""The parts of a node that runs pass, on a real database, with functions in this process."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from dags import INTERFACES, PURE
from event_node import opened_anew

from dsfn.billing.sqlite import connect
from dsfn.billing.usage import Status, Usage
from dsfn.functions.errors import CallCancelled, DsfnError, NotFound
from dsfn.functions.interface import Interface, ParameterInterface, ResultInterface
from dsfn.functions.options import Options
from dsfn.functions.workflow.dag import (
    Call as CallStep,
)
from dsfn.functions.workflow.dag import (
    Collected,
    Dag,
    Each,
    Expr,
    Input,
    Item,
    Result,
    Step,
    StepOptions,
    Within,
    WorkflowInput,
    WorkflowOptions,
)
from dsfn.functions.workflow.document import digest_of
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.blobs.owners import BlobOwners
from dsfn.runtime.clock import Clock, SystemClock
from dsfn.runtime.events.queue import Queue
from dsfn.runtime.events.router import Router
from dsfn.runtime.model import Answer, Call, Charge, Phases, Revision
from dsfn.runtime.registry import Subscription
from dsfn.runtime.workflows.books import Errors
from dsfn.runtime.workflows.cache import ResultCache
from dsfn.runtime.workflows.engine import Engine
from dsfn.runtime.workflows.machine import _stop
from dsfn.runtime.workflows.model import Blob, NewRun, RunRecord, Value, WorkflowRevision
from dsfn.runtime.workflows.prices import Prices
from dsfn.runtime.workflows.surroundings import Surroundings
from dsfn.runtime.workflows.values import json_blob
from dsfn.runtime.writer import alone, post_apart

Behave = Callable[[Call], Awaitable[Answer]]
COST_NANO = 7
HELD_US = 2000
_NUMBERS = count()


class ManualClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_us = 1_700_000_000_000_000

    def now_us(self) -> int:
        return self.at_us

    def monotonic_ns(self) -> int:
        return self.at_us * 1000

    def advance(self, seconds: float) -> None:
        self.at_us += int(seconds * 1_000_000)


def new_id(now_us: int) -> str:
    return f"{now_us:014x}{next(_NUMBERS):06x}{os.getpid():06x}"


def of(value: Any) -> Blob:
    """A JSON value."""
    return json_blob(json.dumps(value, separators=(",", ":")).encode())


def answer_to(call: Call, value: Any) -> Answer:
    return raw_answer(call, json.dumps(value).encode())


def raw_answer(call: Call, body: bytes, content_type: str = "application/json") -> Answer:
    charge = Charge("cpu", 1000, HELD_US, 0, COST_NANO, "EUR")
    assert call.revision is not None
    return Answer(call.id, call.revision, content_type, Phases(), charge, body)


def usage_of(call: Call, status: Status = "succeeded", error: str = "") -> Usage:
    return Usage(
        call.id,
        call.tenant,
        call.caller,
        call.function,
        call.revision or "",
        "cpu",
        call.received_at_us,
        1000,
        HELD_US,
        0,
        status,
        error,
        call.idempotency_key or "",
    )


def cost_nano(usage: Usage) -> int:
    return 0 if usage.status == "platform" else COST_NANO


def revision_of(name: str, interface: Interface) -> Revision:
    return Revision(
        f"{name}-0000000001", name, "", "app.py", "", None, None, 1, Options(name=name), interface
    )


async def pure(call: Call) -> Answer:
    """Runs a function of `dags` on the arguments of a call."""
    return answer_to(call, PURE[call.function].run(**json.loads(call.body)))


def interface(*parameters: tuple[str, str], result: str = "json") -> Interface:
    """An interface of parameters (name, kind)."""
    return Interface(
        "",
        tuple(ParameterInterface(name, kind, True) for name, kind in parameters),  # type: ignore[arg-type]
        ResultInterface(result),  # type: ignore[arg-type]
    )


class RunNode:
    """One life of a node on `root`. A new one on the same place is what comes after a crash."""

    def __init__(
        self,
        root: Path,
        behave: Behave = pure,
        interfaces: Mapping[str, Interface] = INTERFACES,
        clock: Clock | None = None,
        max_runs: int = 10_000,
        subscriptions: Sequence[Subscription] = (),
        at_most_nano: int = COST_NANO,
    ) -> None:
        self.clock = clock or SystemClock()
        self.behave = behave
        self.connection = connect(root / "node.db", "")
        self.ledger = opened_anew(root / "ledger.db")
        self.blobs = BlobStore(root / "blobs")
        self.functions = {
            f"{name}-0000000001": revision_of(name, each) for name, each in interfaces.items()
        }
        self.workflows: dict[str, WorkflowRevision] = {}
        self.queue = Queue(self.connection, self.blobs, self.clock)
        self.router = Router(
            self.connection,
            self.queue,
            self.blobs,
            self.clock,
            lambda: subscriptions,
            new_id,
            "default",
            1 << 20,
            BlobOwners(self.connection, self.clock).add,
        )
        self.engine = Engine(
            Surroundings(
                self.connection,
                self.clock,
                self.blobs,
                self.router,
                ResultCache(self.connection, self.clock),
                self.call,
                self._function,
                self._workflow,
                self.post,
                self.post_now,
                Prices("EUR", cost_nano, lambda revision: at_most_nano),
                new_id,
                1 << 20,
            ),
            max_runs=max_runs,
            chance=random.random,
        )
        self.store = self.engine.store

    def post(self, rows: Sequence[Usage], done: Callable[[Errors], None]) -> None:
        """Posts rows, as the meter does."""
        done(self.post_now(rows))

    def post_now(self, rows: Sequence[Usage]) -> Errors:
        return post_apart(self.ledger.post, [alone(row) for row in rows])

    async def call(self, call: Call, bill: Callable[[Usage], None]) -> Answer:
        """What the spine does, in short."""
        try:
            answer = await self.behave(call)
        except DsfnError as error:
            bill(usage_of(call, "failed", type(error).__name__))
            raise
        except asyncio.CancelledError:
            bill(usage_of(call, "cancelled", CallCancelled.__name__))
            raise
        bill(usage_of(call))
        return answer

    def deploy(self, dag: Dag) -> WorkflowRevision:
        revision = WorkflowRevision(f"{dag.name}-{digest_of(dag)[:10]}", dag.name, dag, 1)
        self.workflows[revision.id] = revision
        return revision

    def new_run(self, dag: Dag, inputs: Mapping[str, Value], **more: Any) -> NewRun:
        pins = {name: f"{name}-0000000001" for name in dag.functions}
        id_ = new_id(self.clock.now_us())
        return NewRun(id_, self.deploy(dag), inputs, pins, **more)

    async def run(self, dag: Dag, **inputs: Any) -> RunRecord:
        """Runs a workflow on JSON values to its end."""
        run = self.new_run(dag, {name: of(value) for name, value in inputs.items()})
        return await self.engine.wait(await self.engine.start(run))

    def output(self, record: RunRecord) -> Any:
        """A JSON output."""
        assert record.output is not None, record.error
        inline = record.output.inline
        if inline is None:
            assert record.output.ref is not None
            inline, _ = self.blobs.get(record.output.ref.removeprefix("blob:sha256:"))
        return json.loads(inline)

    def billed(self) -> list[Usage]:
        """The rows in the ledger."""
        return list(self.ledger.between(0, 2**62))

    async def close(self, grace_s: float = 0.0) -> None:
        await self.engine.close(grace_s)
        self.drop()

    def kill(self) -> None:
        """What is in memory is lost at once, as by `kill -9`."""
        machine = self.engine._machine
        machine.turns = machine.books = MagicMock()
        machine.calls.closed = True
        for run in machine.runs.values():
            _stop(run)
        self.drop()

    def drop(self) -> None:
        self.connection.close()
        self.ledger.close()

    def _function(self, revision: str) -> Revision:
        if revision not in self.functions:
            raise NotFound(f"There is no revision {revision}.", kind="revision", name=revision)
        return self.functions[revision]

    def _workflow(self, revision: str) -> WorkflowRevision:
        if revision not in self.workflows:
            raise NotFound(f"There is no revision {revision}.", kind="revision", name=revision)
        return self.workflows[revision]


def workflow(
    *steps: Step, output: Expr, inputs: Sequence[WorkflowInput] = (), **options: Any
) -> Dag:
    """A workflow named "flow"."""
    return Dag(WorkflowOptions("flow", **options), "", tuple(inputs), steps, output)


def chain(length: int, **options: Any) -> Dag:
    """A workflow that doubles its input `n` so many times."""
    steps = [
        CallStep(f"s{i}", "double", (("n", Result(f"s{i - 1}") if i else Input("n")),))
        for i in range(length)
    ]
    return workflow(
        *steps, output=Result(f"s{length - 1}"), inputs=(WorkflowInput("n", "json"),), **options
    )


def mapped(at_once: int = 16, call: StepOptions | None = None, **options: Any) -> Dag:
    """A workflow that doubles each of its input `ns`."""
    return workflow(
        Each("each", (Input("ns"),), parallel=at_once),
        CallStep("s", "double", (("n", Item("each")),), Within("each"), call or StepOptions()),
        output=Collected("each", Result("s")),
        inputs=(WorkflowInput("ns", "json"),),
        **options,
    )


def one_step(**options: Any) -> Dag:
    """A workflow that doubles its input `n`, by a step with these options."""
    step = CallStep("s", "double", (("n", Input("n")),), None, StepOptions(**options))
    return workflow(step, output=Result("s"), inputs=(WorkflowInput("n", "json"),))
