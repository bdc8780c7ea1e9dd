"""The cold calls that a node remembers."""

from __future__ import annotations

import pytest

from dsfn.runtime import timelines as timelines_module
from dsfn.runtime.model import Answer, Charge, Phases
from dsfn.runtime.timelines import KEPT_CALLS, Timelines

CHARGE = Charge("cpu", 1, 1, 0, 0, "USD")


def answer(number: int, phases: Phases) -> Answer:
    return Answer(f"call-{number}", "f-1", "application/json", phases, CHARGE)


def test_only_calls_that_waited_for_a_replica_are_kept_newest_first() -> None:
    timelines = Timelines()
    timelines.answered("f", answer(1, Phases(restore_us=5, execute_us=2)), 10)
    timelines.answered("f", answer(2, Phases(queue_us=9, execute_us=2)), 20)
    timelines.answered("f", answer(3, Phases(start_us=7)), 30)
    assert [(call.call_id, call.at_us) for call in timelines.of("f")] == [
        ("call-3", 30),
        ("call-1", 10),
    ]
    assert timelines.of("f")[1].phases_us == {"queue": 0, "start": 0, "restore": 5, "execute": 2}
    assert timelines.of("unknown") == ()


def test_of_each_function_the_last_calls_are_kept() -> None:
    timelines = Timelines()
    for number in range(KEPT_CALLS + 5):
        timelines.answered("f", answer(number, Phases(start_us=1)), number)
    calls = timelines.of("f")
    assert len(calls) == KEPT_CALLS
    assert (calls[0].at_us, calls[-1].at_us) == (KEPT_CALLS + 4, 5)


def test_of_too_many_functions_those_that_were_called_last_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timelines_module, "KEPT_FUNCTIONS", 2)
    timelines = Timelines()
    for number, name in enumerate(("a", "b", "a", "c")):
        timelines.answered(name, answer(number, Phases(start_us=1)), number)
    assert [bool(timelines.of(name)) for name in ("a", "b", "c")] == [True, False, True]


def test_the_phases_of_a_call_are_told_in_the_order_of_time() -> None:
    phases = Phases(queue_us=40, start_us=900, restore_us=8100, execute_us=5200)
    assert phases.server_timing() == (
        "queue;dur=0.040, start;dur=0.900, restore;dur=8.100, execute;dur=5.200"
    )
