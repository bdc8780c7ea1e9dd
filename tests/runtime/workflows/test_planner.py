"""What a node plans with: its ledger's numbers, and the workflows that plans become."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from revisions import make_revision

from dsfn.billing.ledger import RecentCall
from dsfn.billing.rates import Rate, RateCard
from dsfn.billing.sqlite import connect
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, DefinitionError, NoPlan
from dsfn.functions.interface import Interface, Kind, ParameterInterface, ResultInterface
from dsfn.functions.listing import MAX_NAMED
from dsfn.functions.workflow.planning.asking import request_of
from dsfn.functions.workflow.planning.model import UNMEASURED_US
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.registry import Registry
from dsfn.runtime.workflows.linker import Linker
from dsfn.runtime.workflows.planner import (
    MAX_AUTO_WORKFLOWS,
    MAX_RECENT_CALLS,
    Planner,
    estimate_of,
)
from dsfn.runtime.workflows.registry import WorkflowRegistry
from dsfn.runtime.workflows.removing import remove_function

CARD = RateCard(devices={"cpu": Rate(pico_per_second=1_000_000)})


def took(held_us: int, **changes: Any) -> RecentCall:
    fields: dict[str, Any] = {
        "revision": "echo-1",
        "device_class": "cpu",
        "busy_us": held_us,
        "held_us": held_us,
        "restore_us": 0,
        "status": "succeeded",
    }
    return RecentCall(**{**fields, **changes})


@pytest.fixture
def planner(tmp_path: Path) -> Iterator[Planner]:
    connection = connect(tmp_path / "node.db", "")
    ledger = SqliteLedger(tmp_path / "ledger.db")
    clock = SystemClock()
    registry, workflows = Registry(connection, clock), WorkflowRegistry(connection, clock)
    yield Planner(registry, workflows, Linker(registry, workflows), ledger, lambda: CARD)
    ledger.close()
    connection.close()


def deploy(planner: Planner, name: str, takes: Kind, gives: Kind, number: int = 1) -> None:
    interface = Interface("", (ParameterInterface("given", takes, True),), ResultInterface(gives))
    planner.registry.register(replace(make_revision(number, name), interface=interface))


def measured(planner: Planner, function: str, held_us: int, revision: str, count: int = 1) -> None:
    planner.ledger.post(
        [
            Usage(
                invocation_id=f"{function}-{revision}-{held_us}-{at}",
                tenant="default",
                caller="",
                function=function,
                revision=revision,
                device_class="cpu",
                started_at_us=1_790_000_000_000_000 + at,
                busy_us=held_us,
                held_us=held_us,
                restore_us=0,
                status="succeeded",
            )
            for at in range(count)
        ]
    )


# Estimates


def test_an_estimate_is_the_median_of_warm_calls_and_the_share_of_cold_ones() -> None:
    calls = [took(1000), took(3000), took(500_000), took(90, restore_us=4000)]
    found = estimate_of(calls, "echo-1", CARD, on_gpu=False)
    assert (found.held_us, found.calls) == (3000, 4)
    assert (found.cold_share, found.restore_us) == (0.25, 4000)
    assert found.cost_nano == round((1 + 3 + 500 + 0) / 4)
    assert found.expected_us == 4000


def test_an_estimate_is_of_the_revision_that_serves_once_it_was_called() -> None:
    before = [took(9000, revision="echo-0")] * 3
    assert estimate_of(before, "echo-1", CARD, on_gpu=False).held_us == 9000
    assert estimate_of([took(10), *before], "echo-1", CARD, on_gpu=False).held_us == 10


def test_failures_are_a_share_of_the_calls_and_no_measure_of_their_length() -> None:
    calls = [took(1000), took(1, status="failed")]
    found = estimate_of(calls, "echo-1", CARD, on_gpu=False)
    assert (found.held_us, found.failed_share, found.expected_us) == (1000, 0.5, 2000)
    never = estimate_of([took(1, status="failed")], "echo-1", CARD, on_gpu=False)
    assert (never.calls, never.failed_share, never.held_us) == (0, 1.0, UNMEASURED_US)


def test_a_function_without_calls_costs_a_second_of_its_device() -> None:
    assert estimate_of([], "echo-1", CARD, on_gpu=False).cost_nano == 1000
    assert estimate_of([], "echo-1", CARD, on_gpu=True).cost_nano == 1_000_000


def test_a_call_costs_what_its_own_device_does() -> None:
    calls = [took(1_000_000, device_class="H100"), took(1_000_000)]
    found = estimate_of(calls, "echo-1", CARD, on_gpu=True)
    assert found.cost_nano == (1_000_000 + 1000) // 2
    assert found.device_class == "H100"


# Plans


def test_the_ledger_decides_between_functions_alike(planner: Planner) -> None:
    deploy(planner, "slow", "audio", "text")
    deploy(planner, "fast", "audio", "text")
    measured(planner, "slow", 90_000, "slow-0000000001")
    measured(planner, "fast", 10_000, "fast-0000000001", count=2)
    plan = asyncio.run(planner.plan(request_of(["audio/wav"], "text/plain")))
    assert plan.functions == ("fast",)
    assert plan.steps[0].estimate.calls == 2
    assert plan.currency == CARD.currency
    assert [other.functions for other in plan.alternatives] == [("slow",)]


def test_an_estimate_is_made_from_a_limited_number_of_calls(planner: Planner) -> None:
    deploy(planner, "f", "audio", "text")
    measured(planner, "f", 10, "f-0000000001", count=MAX_RECENT_CALLS + 20)
    plan = asyncio.run(planner.plan(request_of(["audio/wav"], "text/plain")))
    assert plan.steps[0].estimate.calls == MAX_RECENT_CALLS


def test_planning_holds_nobody_up(planner: Planner) -> None:
    for at in range(200):
        deploy(planner, f"f{at}", "text", "text" if at % 2 else "image")
    request = request_of(["text/plain"], "text/plain")

    async def longest_pause() -> float:
        plans = asyncio.gather(*(planner.plan(request) for _ in range(3)))
        longest, before = 0.0, time.monotonic()
        while not plans.done():
            await asyncio.sleep(0.001)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
        await plans
        return longest

    assert asyncio.run(longest_pause()) < 1.0


def test_a_saved_plan_is_a_workflow_and_the_same_one_is_saved_once(planner: Planner) -> None:
    deploy(planner, "f", "audio", "text")
    request = request_of(["audio/wav"], "text/plain")
    first = planner.save(asyncio.run(planner.plan(request, "mine")))
    again = planner.save(asyncio.run(planner.plan(request, "mine")))
    assert first == again == planner.workflows.find("mine")
    assert len(planner.workflows.history("mine")) == 1


def test_a_plan_cannot_have_a_functions_name_or_none_at_all(planner: Planner) -> None:
    deploy(planner, "f", "audio", "text")
    request = request_of(["audio/wav"], "text/plain")
    with pytest.raises(DefinitionError, match="is the name of a function"):
        planner.save(asyncio.run(planner.plan(request, "f")))
    with pytest.raises(DefinitionError):
        planner.save(asyncio.run(planner.plan(request, "No Name")))


def test_a_plan_over_what_is_deployed_no_more_is_not_made(planner: Planner) -> None:
    deploy(planner, "f", "audio", "text")
    planner.registry.delete("f")
    with pytest.raises(NoPlan):
        asyncio.run(planner.plan(request_of(["audio/wav"], "text/plain")))


def test_a_plan_that_nobody_named_goes_with_a_function_that_it_calls(planner: Planner) -> None:
    deploy(planner, "f", "audio", "text")
    deploy(planner, "g", "image", "text")
    for media in ("audio/wav", "image/png"):
        planner.save(asyncio.run(planner.plan(request_of([media], "text/plain"))))
    remove_function("f", planner.registry, planner.workflows)
    assert not planner.registry.has("f")
    assert [each.dag.functions for each in planner.workflows.all()] == [("g",)]


def test_a_function_stays_while_workflows_call_it_and_some_of_them_are_named(
    planner: Planner,
) -> None:
    deploy(planner, "f", "audio", "text")
    for at in range(MAX_NAMED + 2):
        request = request_of(["audio/wav"], "text/plain")
        planner.save(asyncio.run(planner.plan(request, f"w{at}")))
    with pytest.raises(Conflict) as caught:
        remove_function("f", planner.registry, planner.workflows)
    assert caught.value.message == (
        "Workflows w0, w1, w2, w3, w4, w5 and 2 more call f: delete them first, or deploy them"
        " without f."
    )
    assert planner.registry.has("f")
    assert len(planner.workflows.all()) == MAX_NAMED + 2


def test_of_plans_without_a_name_those_that_were_used_last_are_kept(planner: Planner) -> None:
    deploy(planner, "f", "text", "image")

    def use(name: str) -> str:
        request = request_of([f"{name}=text/plain"], "image/png")
        return planner.save(asyncio.run(planner.plan(request))).workflow

    named = asyncio.run(planner.plan(request_of(["text/plain"], "image/png"), "mine"))
    planner.save(named)
    first, second = use("first"), use("second")
    for at in range(MAX_AUTO_WORKFLOWS - 2):
        use(f"n{at}")
    use("first")
    use("one_more")
    kept = {revision.workflow for revision in planner.workflows.all()}
    assert len(kept) == MAX_AUTO_WORKFLOWS + 1
    assert first in kept and "mine" in kept
    assert second not in kept
