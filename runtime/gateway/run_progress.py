"""A run as it goes: server-sent events from the state that it is in to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from dsfn.runtime.gateway.run_documents import (
    MAX_STEPS_SHOWN,
    all_steps,
    has_ended,
    run_document,
    step_document,
)
from dsfn.runtime.gateway.server_sent import server_sent_event, with_beats
from dsfn.runtime.services import Services
from dsfn.runtime.workflows.model import Change, RunRecord


async def run_events(services: Services, run: str) -> AsyncGenerator[bytes, None]:
    """`run` with the whole document, `step` for each change of one, and `run` again at the end.

    Between them comments, so that a client sees that the connection lives. Ends early when the
    node stops. Raises `NotFound`.
    """
    # Asked for before the state is looked at: what changes in between is told twice, not never.
    changes = services.runs.watch(run)
    record = services.runs.store.get(run)
    yield server_sent_event("run", await described(services, record))
    if has_ended(record):
        return
    steps = with_beats(_steps(services, changes), lambda: services.life.accepts_calls)
    async with aclosing(steps):
        async for event in steps:
            yield event
    yield server_sent_event("run", await described(services, services.runs.store.get(run)))


async def described(
    services: Services, run: RunRecord, page: slice | None = None
) -> dict[str, Any]:
    """A run's document."""
    revision = services.workflows.revision(run.revision)
    steps = await all_steps(services.runs, run.id)
    shown = slice(0, MAX_STEPS_SHOWN) if page is None else page
    facts = (run, revision, steps, services.rates.book.currency, services.clock.now_us(), shown)
    if len(steps) <= MAX_STEPS_SHOWN:
        return run_document(*facts)
    # Adding up the largest fan-outs takes seconds.
    return await asyncio.to_thread(run_document, *facts)


async def _steps(services: Services, changes: AsyncIterator[Change]) -> AsyncGenerator[bytes, None]:
    """The changes of steps that call a function, until the run has ended."""
    async for change in changes:
        if change.ended is not None:
            return
        if change.step is not None and change.step.function is not None:
            yield server_sent_event(
                "step", step_document(change.step, services.rates.book.currency)
            )
