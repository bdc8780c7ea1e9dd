"""The engine: runs of workflows, durably."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from dsfn.runtime.workflows.model import Change, NewRun, RunRecord, StepRecord
from dsfn.runtime.workflows.store import RunStore


@dataclass(eq=False)
class Engine:
    """Takes runs on, sees each through to its one end, and takes up at its start what a node
    that was killed had begun. Belongs to the event loop's thread."""

    store: RunStore

    def start_serving(self) -> None:
        """Takes up the runs that were not over, and begins."""
        raise NotImplementedError

    async def close(self) -> None:
        """Calls off what runs; it is taken up again at the next start."""
        raise NotImplementedError

    async def start(self, run: NewRun) -> str:
        """Takes a run on; when this returns it survives `kill -9`. Gives its id, or that of the
        first run with its idempotency key.

        Raises `Unavailable` when as many are under way as may be, `IdempotencyMismatch`,
        `StorageFull`.
        """
        raise NotImplementedError

    async def wait(self, run: str) -> RunRecord:
        """The run once it has ended. Calling the wait off leaves the run alone.

        Raises `NotFound`.
        """
        raise NotImplementedError

    def cancel(self, run: str) -> None:
        """Calls a run off: it ends, cancelled, once the calls that it made have been stopped.

        Raises `NotFound`, `Conflict` when it has ended, `StorageFull`.
        """
        raise NotImplementedError

    async def retry(self, run: str, new_id: str) -> str:
        """Starts a run that takes over what `run` finished and goes on from there; gives its id.

        Raises `NotFound`, `Conflict` unless it failed or was cancelled, and what `start` does.
        """
        raise NotImplementedError

    def steps(self, run: str, limit: int = 1000, after: int = 0) -> tuple[list[StepRecord], int]:
        """Steps of a run in the order in which they ended, then those that run or wait, and the
        `after` of the next page, 0 when there is none. Raises `NotFound`."""
        raise NotImplementedError

    def watch(self, run: str | None = None) -> AsyncIterator[Change]:
        """What happens to a run from now on, until it has ended; to all runs, without end, when
        none is named. Somebody who does not keep up misses steps, but no run's end.

        Raises `NotFound`.
        """
        raise NotImplementedError
