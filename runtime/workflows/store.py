"""Runs and their steps in the node's database, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping

from dsfn.runtime.workflows.model import RunRecord, RunState, Value


class RunStore:
    """The runs that are kept. Belongs to the event loop's thread."""

    def get(self, run: str) -> RunRecord:
        """Raises `NotFound`."""
        raise NotImplementedError

    def inputs(self, run: str) -> Mapping[str, Value]:
        """What a run was started with. Raises `NotFound`."""
        raise NotImplementedError

    def list(
        self,
        workflow: str | None = None,
        state: RunState | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[RunRecord]:
        """Runs, those that started last first; `before` is the last id of the page before.

        Raises `NotFound` when there is no such run.
        """
        raise NotImplementedError

    def pinned(self) -> frozenset[str]:
        """The revisions of functions that runs under way keep to."""
        raise NotImplementedError

    def workflow_revisions(self) -> frozenset[str]:
        """The revisions of workflows that there are runs of."""
        raise NotImplementedError

    def prune(self) -> int:
        """Drops some of the runs that ended longer ago than they are kept; gives the number of
        rows that went."""
        raise NotImplementedError
