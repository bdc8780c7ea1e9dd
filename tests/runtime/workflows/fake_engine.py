"""An engine that only remembers what it was to start, as durably as the real one does."""

from __future__ import annotations

from dsfn.functions.errors import DsfnError
from dsfn.runtime.workflows.engine import Engine
from dsfn.runtime.workflows.model import NewRun


class FakeEngine(Engine):
    """`runs` outlives it: give it to the next one, and that is what comes after a crash."""

    def __init__(self, runs: dict[str, NewRun] | None = None) -> None:
        self.runs = {} if runs is None else runs
        self.refuses: DsfnError | None = None

    async def start(self, run: NewRun) -> str:
        if self.refuses is not None:
            raise self.refuses
        assert run.idempotency_key is not None
        return self.runs.setdefault(run.idempotency_key, run).id
