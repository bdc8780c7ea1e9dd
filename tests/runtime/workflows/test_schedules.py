from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from event_node import EventNode, ManualClock, answer_to, new_id
from fake_engine import FakeEngine
from revisions import event_type, make_revision
from small_dags import make_dag

from dsfn.functions.errors import DefinitionError, StorageFull, Unavailable
from dsfn.functions.workflow.dag import Constant, WorkflowInput
from dsfn.runtime.model import Answer, Call
from dsfn.runtime.workflows.cron import check_schedule
from dsfn.runtime.workflows.model import NewRun
from dsfn.runtime.workflows.pins import Pins
from dsfn.runtime.workflows.schedules import Schedules
from dsfn.runtime.workflows.starter import Starter

COUNT = WorkflowInput("count", "json", required=False, default=Constant.of(3))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


async def answers(call: Call) -> Answer:
    return answer_to(call)


class Timetable:
    """One life of a node's schedules on `root`."""

    def __init__(self, root: Path, clock: ManualClock, runs: dict[str, NewRun]) -> None:
        self.node = EventNode(root, clock, answers)
        self.engine = FakeEngine(runs)
        starter = Starter(
            self.node.workflows, Pins(self.node.registry), self.node.blobs, clock, new_id, 1 << 20
        )
        self.schedules = Schedules(
            self.node.connection,
            self.node.workflows,
            starter,
            self.engine,
            self.node.router,
            clock,
            "default",
        )

    def deploy(self, schedule: str | None, name: str = "relay") -> None:
        workflows = self.node.workflows
        dag = make_dag(name, inputs=(COUNT,), schedule=schedule)
        workflows.register(workflows.new_revision(dag))
        self.fire()

    def fire(self) -> int:
        return asyncio.run(self.schedules.fire_due())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(at("2026-03-01 10:00:30"))


@pytest.fixture
def runs() -> dict[str, NewRun]:
    return {}


@pytest.fixture
def table(tmp_path: Path, clock: ManualClock, runs: dict[str, NewRun]) -> Iterator[Timetable]:
    made = Timetable(tmp_path, clock, runs)
    made.node.registry.register(make_revision(1))
    yield made
    made.node.close()


def keys(runs: dict[str, NewRun]) -> list[str]:
    return [key.removeprefix("cron:") for key in runs]


def test_each_time_starts_one_run(
    table: Timetable, clock: ManualClock, runs: dict[str, NewRun]
) -> None:
    table.deploy("*/5 * * * *")
    assert table.fire() == 0
    clock.advance(4 * 60)
    assert table.fire() == 0
    clock.advance(40)
    assert table.fire() == 1 and table.fire() == 0
    clock.advance(300)
    assert table.fire() == 1
    assert keys(runs) == ["relay:2026-03-01T10:05:00+00:00", "relay:2026-03-01T10:10:00+00:00"]


def test_times_are_in_utc(table: Timetable, clock: ManualClock, runs: dict[str, NewRun]) -> None:
    table.deploy("30 6 * * MON")
    clock.at_us = at("2026-03-02 06:29:59")
    assert table.fire() == 0
    clock.at_us = at("2026-03-02 06:30:00")
    assert table.fire() == 1
    assert keys(runs) == ["relay:2026-03-02T06:30:00+00:00"]


def test_a_node_that_was_down_makes_up_for_what_it_missed_once(
    table: Timetable, tmp_path: Path, clock: ManualClock, runs: dict[str, NewRun]
) -> None:
    table.deploy("*/5 * * * *")
    clock.advance(3600)
    after = Timetable(tmp_path, clock, runs)
    assert after.fire() == 1 and after.fire() == 0
    assert keys(runs) == ["relay:2026-03-01T11:00:00+00:00"]
    clock.advance(300)
    assert after.fire() == 1
    after.node.close()


def test_a_node_that_is_killed_after_the_run_was_stored_starts_no_second_one(
    table: Timetable,
    tmp_path: Path,
    clock: ManualClock,
    runs: dict[str, NewRun],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table.deploy("*/5 * * * *")
    clock.advance(300)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(table.schedules, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        table.fire()
    assert len(runs) == 1
    after = Timetable(tmp_path, clock, runs)
    assert after.fire() == 1 and after.fire() == 0
    assert len(runs) == 1
    after.node.close()


@pytest.mark.parametrize("error", [Unavailable("Full.", retry_after_s=1), StorageFull("Full.")])
def test_a_run_that_cannot_be_taken_on_now_is_started_later(
    table: Timetable, clock: ManualClock, runs: dict[str, NewRun], error: Unavailable | StorageFull
) -> None:
    table.deploy("*/5 * * * *")
    clock.advance(300)
    table.engine.refuses = error
    assert table.fire() == 0
    table.engine.refuses = None
    clock.advance(60)
    assert table.fire() == 1
    assert keys(runs) == ["relay:2026-03-01T10:05:00+00:00"]


def test_a_run_that_can_never_start_is_told_of_and_others_go_on(
    table: Timetable, clock: ManualClock, runs: dict[str, NewRun]
) -> None:
    node = table.node
    node.registry.register(make_revision(1, "listener"))
    node.registry.subscribe("listener", event_type("dev.dsfn.workflow.refused"))
    lost = make_dag("lost", function="nowhere", inputs=(), schedule="*/5 * * * *")
    node.workflows.register(node.workflows.new_revision(lost))
    table.deploy("*/5 * * * *")
    clock.advance(300)
    assert table.fire() == 1
    assert keys(runs) == ["relay:2026-03-01T10:05:00+00:00"]
    assert node.states("listener") == ["queued"]
    assert table.fire() == 0


def test_a_schedule_that_changes_or_goes_counts_from_then_on(
    table: Timetable, clock: ManualClock, runs: dict[str, NewRun]
) -> None:
    table.deploy("*/5 * * * *")
    clock.advance(120)
    table.deploy("* * * * *")
    clock.advance(60)
    assert table.fire() == 1
    table.deploy(None)
    clock.advance(3600)
    assert table.fire() == 0
    table.deploy("* * * * *")
    assert table.fire() == 0
    table.node.workflows.delete("relay")
    clock.advance(3600)
    assert table.fire() == 0
    assert len(runs) == 1


def test_the_task_looks_at_the_time_by_itself_and_survives_faults(
    table: Timetable, clock: ManualClock, runs: dict[str, NewRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsfn.runtime.workflows.schedules.POLL_S", 0.01)

    async def main() -> None:
        await table.schedules.fire_due()
        table.engine.refuses = ValueError("broken")  # type: ignore[assignment]
        clock.advance(300)
        table.schedules.start()
        await asyncio.sleep(0.05)
        table.engine.refuses = None
        while not runs:
            await asyncio.sleep(0.01)
        await table.schedules.close()

    table.deploy("*/5 * * * *")
    asyncio.run(main())
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("nonsense", "is no cron expression; write its five fields"),
        ("* * * * * *", "is no cron expression; write its five fields"),
        ("61 * * * *", "(bad minute)"),
        ("0 0 30 2 *", "(bad day-of-month)"),
        ("0 25 * * *", "(bad hour)"),
    ],
)
def test_an_expression_that_makes_no_sense_is_refused(expression: str, reason: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_schedule(expression)
    assert reason in caught.value.message
    check_schedule("0 6 * * 1-5")
