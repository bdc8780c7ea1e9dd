"""First answers of a pod that lives long go when their time is over, as a node's do."""

from __future__ import annotations

import asyncio
import logging

import apsw

from dsfn.functions.errors import StorageFull
from dsfn.functions.values import dataclass
from dsfn.runtime.answers import Answers

EVERY_S = 30.0
# Between one part and the next, as calls need the database, too.
_PAUSE_S = 0.25
_LOG = logging.getLogger("dsfn.pod")


@dataclass(eq=False)
class Pruning:
    """Drops old first answers when the pod starts and now and then."""

    answers: Answers
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins."""
        self._task = asyncio.create_task(self._keep_small(), name="pruning")

    async def close(self) -> None:
        """Drops no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_small(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_S if self._prune() else EVERY_S)

    def _prune(self) -> int:
        try:
            return self.answers.prune()
        except (StorageFull, apsw.Error) as error:
            _LOG.warning("First answers that are old stay for now: %s", error)
            return 0
