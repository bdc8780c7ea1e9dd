"""Runs, their steps and their outputs as JSON documents."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from dsfn.functions.errors import from_document
from dsfn.functions.media import is_json, parse_content_type
from dsfn.functions.workflow.dag import Call, Step
from dsfn.runtime.clock import rfc3339
from dsfn.runtime.gateway.run_overview import overview
from dsfn.runtime.problems import problem_document
from dsfn.runtime.workflows.drawing import Progress
from dsfn.runtime.workflows.engine import Engine
from dsfn.runtime.workflows.model import (
    Blob,
    RunRecord,
    RunState,
    StepRecord,
    WorkflowRevision,
    item_of,
)

MAX_STEPS_SHOWN = 1_000

Document = dict[str, Any]
Error = Mapping[str, Any] | None


def run_summary(run: RunRecord, currency: str) -> Document:
    """A run without its steps and its output."""
    return {
        "id": run.id,
        "workflow": run.workflow,
        "revision": run.revision,
        "state": run.state,
        "error": _error(run.error, run.id),
        "started_at": rfc3339(run.started_at_us),
        "finished_at": _time(run.finished_at_us),
        "cost": _cost(run.cost_nano, currency),
        "held_us": run.held_us,
        "retry_of": run.retry_of,
    }


def run_document(
    run: RunRecord,
    revision: WorkflowRevision,
    steps: list[StepRecord],
    currency: str,
    now_us: int,
    page: slice,
) -> Document:
    """A run in full; of its calls, in the order of the workflow and then of the items, a page.
    `steps` are all of the run, in any order."""
    order = {step.id: at for at, step in enumerate(revision.dag.steps)}
    calls = sorted(
        (step for step in steps if step.function is not None),
        key=lambda step: (order[step.step], step.path),
    )
    more = page.stop < len(calls)
    found = overview(revision.dag, steps, run.state, now_us)
    return {
        "id": run.id,
        "workflow": run.workflow,
        "revision": run.revision,
        "state": run.state,
        "output": None if run.output is None else output_value(run.output),
        "error": _error(run.error, run.id),
        "started_at": rfc3339(run.started_at_us),
        "finished_at": _time(run.finished_at_us),
        "cost": _cost(run.cost_nano, currency),
        "held_us": run.held_us,
        "steps": [step_document(step, currency) for step in calls[page]],
        "steps_total": len(calls),
        "steps_next": page.stop if more else None,
        "progress": [
            _progress_document(step, found[step.id], currency) for step in revision.dag.steps
        ],
        "retry_of": run.retry_of,
    }


def step_document(step: StepRecord, currency: str) -> Document:
    """One step for one item."""
    return {
        "id": step.step,
        "function": step.function,
        "revision": step.revision,
        "item": item_of(step.path),
        "state": step.state,
        "attempts": step.attempts,
        "started_at": _time(step.started_at_us),
        "finished_at": _time(step.finished_at_us),
        "busy_us": step.busy_us,
        "held_us": step.held_us,
        "cost": _cost(step.cost_nano, currency),
        "cached": step.cached,
        "error": _error(step.error),
        "invocations": list(step.invocations),
    }


def output_value(output: Blob) -> Any:
    """An output inside a document: JSON and text as they are, other bytes as base64 with their
    type, large ones as a reference."""
    if output.inline is None:
        return _described({"$ref": output.ref}, output)
    return value_of(output, output.inline)


def value_of(output: Blob, data: bytes) -> Any:
    """The bytes of an output as a JSON value."""
    media = parse_content_type(output.content_type)[0]
    if is_json(media):
        return json.loads(data)
    if media.startswith("text/"):
        return data.decode(errors="replace")
    return _described({"base64": b64encode(data).decode()}, output)


async def all_steps(engine: Engine, run: str) -> list[StepRecord]:
    """Every step of a run, a page at a time: others have their turn between. Raises `NotFound`."""
    found: dict[tuple[str, tuple[int, ...]], StepRecord] = {}
    after = 0
    while True:
        page, after = engine.steps(run, MAX_STEPS_SHOWN, after)
        # One that ended between two pages is in both; the later says more.
        found.update(((step.step, step.path), step) for step in page)
        if not after:
            return list(found.values())
        await asyncio.sleep(0)


def _progress_document(step: Step, found: Progress, currency: str) -> Document:
    return {
        "id": step.id,
        "kind": "call" if isinstance(step, Call) else type(step).__name__.lower(),
        "states": dict(found.states),
        "wall_us": found.wall_us,
        "held_us": found.held_us,
        "cost": _cost(found.cost_nano, currency),
        "retried": found.retried,
        "cached": found.cached,
    }


def _described(document: Document, output: Blob) -> Document:
    document["content_type"] = output.content_type
    return document if output.name is None else {**document, "name": output.name}


def _cost(amount_nano: int, currency: str) -> Document:
    return {"currency": currency, "amount_nano": amount_nano}


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else rfc3339(at_us)


def _error(error: Error, run: str = "") -> Document | None:
    if error is None:
        return None
    problem = problem_document(from_document(error))
    return {**problem, "run": run} if run else problem


def has_ended(run: RunRecord) -> bool:
    """Whether a run will not change any more."""
    return run.state is not RunState.RUNNING
