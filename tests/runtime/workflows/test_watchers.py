"""Those who watch runs."""

from __future__ import annotations

import asyncio
import gc

from dsfn.runtime.workflows.model import Change, RunRecord, RunState, StepRecord, StepState
from dsfn.runtime.workflows.watchers import MAX_BEHIND, Watchers

STEP = StepRecord("s", (), "f", "f-1", StepState.RUNNING)
ENDED = RunRecord("r", "w", "w-1", RunState.SUCCEEDED, "t", "", 1, 2, 0, 0)


def test_who_does_not_keep_up_misses_steps_but_no_end() -> None:
    async def scenario() -> None:
        watchers = Watchers()
        watching = watchers.watch("r")
        for _ in range(MAX_BEHIND + 500):
            watchers.publish(Change("r", STEP))
        watchers.publish(Change("other", STEP))
        watchers.publish(Change("r", ended=ENDED))
        seen = [change async for change in watching]
        assert len(seen) == MAX_BEHIND + 1
        assert seen[-1].ended == ENDED

    asyncio.run(scenario())


def test_who_lets_go_does_not_watch_any_more() -> None:
    async def scenario() -> None:
        watchers = Watchers()
        never_looked = watchers.watch(None)
        assert watchers
        del never_looked
        gc.collect()
        assert not watchers

    asyncio.run(scenario())
