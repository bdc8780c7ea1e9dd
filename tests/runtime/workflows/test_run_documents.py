"""The documents of runs, and the stream of server-sent events that tells of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pictured import album

from dsfn.functions.errors import HandlerRaised
from dsfn.runtime.clock import rfc3339
from dsfn.runtime.gateway.run_documents import output_value, run_document, step_document
from dsfn.runtime.gateway.server_sent import server_sent_event, with_beats
from dsfn.runtime.workflows.model import (
    Blob,
    RunRecord,
    RunState,
    StepRecord,
    StepState,
    WorkflowRevision,
)

NOW_US = 1_790_000_000_000_000
REVISION = WorkflowRevision("album-0000000001", "album", album(), NOW_US)
FAILURE = HandlerRaised("No face.", exception="ValueError", step="classify", item=1)
REF = f"blob:sha256:{'0' * 64}"


def step(id: str, *path: int, state: StepState = StepState.SUCCEEDED, **more: Any) -> StepRecord:
    facts = {"attempts": 1, "started_at_us": NOW_US, "finished_at_us": NOW_US + 1000, **more}
    return StepRecord(id, path, id, f"{id}-1", state, **facts)


def run(state: RunState = RunState.SUCCEEDED, **more: Any) -> RunRecord:
    return RunRecord(
        "r1", "album", REVISION.id, state, "default", "", NOW_US, NOW_US + 9, 5, 7, **more
    )


def document(*steps: StepRecord, page: slice = slice(0, 1000), **more: Any) -> dict[str, Any]:
    found = run_document(run(**more), REVISION, list(steps), "EUR", NOW_US + 5000, page)
    assert json.loads(json.dumps(found)) == found
    return found


def test_the_document_has_the_members_that_were_promised() -> None:
    found = document(step("index"), output=Blob("application/json", 2, b"[]"))
    assert list(found) == [
        "id",
        "workflow",
        "revision",
        "state",
        "output",
        "error",
        "started_at",
        "finished_at",
        "cost",
        "held_us",
        "steps",
        "steps_total",
        "steps_next",
        "progress",
        "retry_of",
    ]
    assert (found["id"], found["state"], found["output"]) == ("r1", "succeeded", [])
    assert found["cost"] == {"currency": "EUR", "amount_nano": 7}
    assert list(found["steps"][0])[:11] == [
        "id",
        "function",
        "revision",
        "item",
        "state",
        "attempts",
        "started_at",
        "finished_at",
        "busy_us",
        "held_us",
        "cost",
    ]


def test_steps_are_in_the_order_of_the_workflow_and_then_of_the_items() -> None:
    given = [step("index"), step("caption", 1), step("classify", 10), step("classify", 9)]
    found = document(*given, step("caption", 0))["steps"]
    assert [(each["id"], each["item"]) for each in found] == [
        ("classify", 9),
        ("classify", 10),
        ("caption", 0),
        ("caption", 1),
        ("index", None),
    ]


def test_a_step_in_nested_fan_outs_says_which_item_of_each() -> None:
    assert step_document(step("classify", 2, 0), "EUR")["item"] == [2, 0]


def test_steps_come_in_pages_and_the_progress_is_of_all() -> None:
    given = [step("classify", at) for at in range(5)]
    first = document(*given, page=slice(0, 3))
    assert [each["item"] for each in first["steps"]] == [0, 1, 2]
    assert (first["steps_total"], first["steps_next"]) == (5, 3)
    rest = document(*given, page=slice(3, 6))
    assert [each["item"] for each in rest["steps"]] == [3, 4]
    assert rest["steps_next"] is None
    assert rest["progress"] == first["progress"]


def test_decisions_and_fan_outs_are_in_the_progress_alone() -> None:
    fan_out = StepRecord("map", (), None, None, StepState.RUNNING, started_at_us=NOW_US)
    found = document(fan_out, step("classify", 0), state=RunState.RUNNING)
    assert [each["id"] for each in found["steps"]] == ["classify"]
    kinds = {each["id"]: each["kind"] for each in found["progress"]}
    assert kinds == {
        "map": "each",
        "classify": "call",
        "caption": "call",
        "has-speech": "call",
        "when": "decide",
        "transcribe": "call",
        "index": "call",
    }
    assert found["progress"][0]["states"] == {"running": 1}


def test_the_progress_of_a_step_adds_up_its_items() -> None:
    given = (
        step("classify", 0, held_us=3, cost_nano=2, attempts=2),
        step("classify", 1, held_us=4, cost_nano=3, cached=True, finished_at_us=NOW_US + 2000),
        step("classify", 2, state=StepState.RUNNING, finished_at_us=None),
        step("classify", 3, state=StepState.WAITING, started_at_us=None, finished_at_us=None),
    )
    progress = next(p for p in document(*given)["progress"] if p["id"] == "classify")
    assert progress == {
        "id": "classify",
        "kind": "call",
        "states": {"waiting": 1, "running": 1, "succeeded": 2},
        "wall_us": 5000,
        "held_us": 7,
        "cost": {"currency": "EUR", "amount_nano": 5},
        "retried": 1,
        "cached": 1,
    }


def test_an_error_is_a_problem_that_names_run_step_and_item() -> None:
    found = document(
        step("classify", 1, state=StepState.FAILED, error=FAILURE.to_document()),
        state=RunState.FAILED,
        error=FAILURE.to_document(),
    )
    assert found["error"]["type"] == "https://dsfn.dev/errors/handler-raised"
    assert (found["error"]["run"], found["error"]["step"], found["error"]["item"]) == (
        "r1",
        "classify",
        1,
    )
    assert found["steps"][0]["error"]["detail"] == "No face."
    assert found["finished_at"] == rfc3339(NOW_US + 9)


@pytest.mark.parametrize(
    ("output", "value"),
    [
        (Blob("application/json", 8, b'{"a": 1}'), {"a": 1}),
        (Blob("text/plain; charset=utf-8", 5, "höre".encode()), "höre"),
        (
            Blob("image/png", 2, b"\x89P", name="a.png"),
            {"base64": "iVA=", "content_type": "image/png", "name": "a.png"},
        ),
        (
            Blob("application/json", 1 << 20, None, REF),
            {"$ref": REF, "content_type": "application/json"},
        ),
    ],
)
def test_an_output_in_a_document_is_json_text_base64_or_a_reference(
    output: Blob, value: object
) -> None:
    assert output_value(output) == value


def test_a_server_sent_event_is_a_name_and_a_line_of_json() -> None:
    assert server_sent_event("step", {"a": "x\ny"}) == b'event: step\ndata: {"a":"x\\ny"}\n\n'


def test_a_stream_that_says_nothing_is_seen_to_live_and_ends_when_it_is_to() -> None:
    closed = []

    async def slow() -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            await asyncio.sleep(0.1)
            yield b"second"
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    async def main() -> list[bytes]:
        found: list[bytes] = []
        items = slow()
        async for item in with_beats(items, lambda: len(found) < 6, 0.03):
            found.append(item)
        await items.aclose()
        return found

    found = asyncio.run(main())
    assert found[0] == b"first"
    assert b"second" in found
    assert found.count(b": \n\n") >= 3
    assert closed == [True]
