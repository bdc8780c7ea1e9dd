"""Begins canaries, counts their calls, and ends them.

What came of calls is read from the ledger: there all rows are, of calls of whatever kind, whoever
made them and wherever they ran, and each is counted once, however often the node is killed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field, replace

import apsw

from dsfn.billing.ledger import Ledger
from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.canaries.canary import Canary, CanaryState, Terms
from dsfn.runtime.canaries.store import CanaryStore
from dsfn.runtime.clock import Clock
from dsfn.runtime.model import Revision
from dsfn.runtime.registry import Registry

LOOK_S = 1.0
_ROWS = 2000
_LOG = logging.getLogger("dsfn.canaries")


@dataclass(frozen=True, slots=True)
class Trial:
    """What is to begin. `seen`: how far the ledger had come by then."""

    terms: Terms
    seen: Mapping[int, int]


@dataclass(eq=False)
class Canaries:
    """The canaries of a node. `reconcile` has what serves agree with the registry."""

    store: CanaryStore
    registry: Registry
    ledger: Ledger
    reconcile: Callable[[], Awaitable[None]]
    clock: Clock
    _task: asyncio.Task[None] | None = field(default=None)

    def start(self) -> None:
        """Goes on where the last run of the node ended."""
        self._task = asyncio.create_task(self._keep(), name="canaries")

    async def close(self) -> None:
        """Stops counting; nothing is lost by that."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def prepare(self, terms: Terms) -> Trial:
        """A trial that may begin from now on. Raises what reading the ledger raises."""
        return Trial(terms, await asyncio.to_thread(self.ledger.heads))

    def candidates(self, revisions: Sequence[Revision]) -> dict[str, str]:
        """Which of these have another revision to be compared with: that one, by function."""
        found = {}
        for revision in revisions:
            if self.registry.has(revision.function):
                current = self.registry.function(revision.function).current
                if current.id != revision.id:
                    found[revision.function] = current.id
        return found

    def begin(self, revisions: Sequence[Revision], trial: Trial) -> None:
        """Writes which revisions are on trial, inside the transaction that makes them live."""
        now_us, baselines = self.clock.now_us(), self.candidates(revisions)
        for each in revisions:
            if (baseline := baselines.get(each.function)) is not None:
                self.store.put(
                    Canary(each.function, each.id, baseline, trial.terms, now_us, trial.seen)
                )

    async def look(self) -> None:
        """Counts what has come, and ends what is to end. Raises what reading the ledger raises."""
        for canary in self.store.running():
            counted = await asyncio.to_thread(self._counted, canary)
            now = self.store.find(canary.function)
            if now != canary:
                continue  # deployed anew, or deleted, meanwhile
            if dict(self.registry.function(canary.function).traffic) != canary.traffic:
                words, now_us = "its calls were shared out otherwise", self.clock.now_us()
                self.store.save(counted.ended(CanaryState.STOPPED, words, now_us))
                continue
            judged = counted.judged(self.clock.now_us())
            if judged.state is not CanaryState.RUNNING:
                await self._end(judged)
            elif judged != canary:
                self.store.save(judged)

    async def _keep(self) -> None:
        while True:
            try:
                await self.look()
            except (DsfnError, apsw.Error) as error:
                _LOG.warning("Canaries cannot be looked at now: %s", error)
            await asyncio.sleep(LOOK_S)

    def _counted(self, canary: Canary) -> Canary:
        """With the rows that have come since. Reads the ledger: not for the event loop."""
        for chain, head in self.ledger.heads().items():
            position = canary.seen.get(chain, 0)
            while position < head:
                rows = self.ledger.calls_in(chain, position, head, _ROWS)
                for _, entry in rows:
                    canary = canary.counting(entry)
                # With fewer than were asked for, all up to the head has been looked at.
                position = rows[-1][0] if len(rows) == _ROWS else head
            canary = replace(canary, seen={**canary.seen, chain: head})
        return canary

    async def _end(self, canary: Canary) -> None:
        """Gives all calls to the one that has proved itself."""
        is_promoted = canary.state is CanaryState.PROMOTED
        winner = canary.revision if is_promoted else canary.baseline
        self.registry.set_traffic(
            canary.function, {winner: 100}, beside=lambda: self.store.put(canary)
        )
        level = logging.INFO if is_promoted else logging.WARNING
        _LOG.log(level, "%s is %s: %s.", canary.revision, canary.state.value, canary.reason)
        await self.reconcile()
