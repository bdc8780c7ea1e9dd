"""Turns: all that comes up in one turn of the event loop shares one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import field

import apsw

from dsfn.billing.sqlite import transaction
from dsfn.functions.errors import DsfnError, StorageFull
from dsfn.functions.values import dataclass
from dsfn.runtime.workflows.active import ActiveRun

PAUSE_S = 1.0
# More than that would hold up the event loop; what is over waits for the next turn.
MAX_ENTRIES = 50
_LOG = logging.getLogger("dsfn.workflows")


def _nothing() -> None:
    """For entries that leave nothing behind in memory."""


@dataclass(eq=False, slots=True)
class Entry:
    """Something that came up. `apply` writes it, inside the transaction, and advances what is in
    memory; `undo` takes back what a reload of the run does not. `refused` is told that it could
    not be written; one without it is tried again until it can be."""

    apply: Callable[[], None]
    run: ActiveRun | None = None
    undo: Callable[[], None] = _nothing
    refused: Callable[[DsfnError], None] | None = None


@dataclass(eq=False, slots=True)
class Turns:
    """Applies entries.

    `before` is called inside each transaction, `committed` after it, `reload` for every run of
    one that was rolled back, `broken` for a run whose entry cannot be applied.
    """

    connection: apsw.Connection
    before: Callable[[], None]
    committed: Callable[[], None]
    reload: Callable[[ActiveRun, DsfnError | None], None]
    broken: Callable[[ActiveRun, DsfnError], None]
    _waiting: list[Entry] = field(default_factory=list)
    _scheduled: asyncio.Handle | None = None
    _paused: bool = False

    def add(self, entry: Entry) -> None:
        """Has an entry applied in the next turn."""
        self._waiting.append(entry)
        if self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self.take)

    def take(self) -> None:
        """Applies what has come up."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._paused = False
        entries, self._waiting = self._waiting[:MAX_ENTRIES], self._waiting[MAX_ENTRIES:]
        if self._waiting:
            self._scheduled = asyncio.get_running_loop().call_soon(self.take)
        self._apply(entries)

    def close(self) -> None:
        """Applies what there is, and nothing more by itself."""
        while self._waiting and not self._paused:
            self.take()
        if self._scheduled is not None:
            self._scheduled.cancel()

    def _apply(self, entries: Sequence[Entry]) -> None:
        endings = {e.run: e.run.ending for e in entries if e.run is not None}
        try:
            with transaction(self.connection):
                self.before()
                for entry in entries:
                    entry.apply()
        except StorageFull as error:
            self._undo(entries, endings)
            self._postpone(entries, error)
        except Exception as error:  # noqa: BLE001  none may be lost
            self._undo(entries, endings)
            if len(entries) > 1:
                # One of the group is at fault: the others must not suffer for it.
                for entry in entries:
                    self._apply([entry])
            else:
                self._break(entries[0], error)
        else:
            self.committed()

    def _undo(self, entries: Sequence[Entry], endings: dict[ActiveRun, DsfnError | None]) -> None:
        for entry in entries:
            entry.undo()
        for run, ending in endings.items():
            self.reload(run, ending)

    def _postpone(self, entries: Sequence[Entry], error: StorageFull) -> None:
        _LOG.warning("Runs cannot go on now: %s", error.message)
        kept = []
        for entry in entries:
            if entry.refused is not None:
                entry.refused(error)
            else:
                kept.append(entry)
        self._waiting = [*kept, *self._waiting]
        if self._scheduled is not None:
            self._scheduled.cancel()
        self._paused = True
        self._scheduled = asyncio.get_running_loop().call_later(PAUSE_S, self.take)

    def _break(self, entry: Entry, error: Exception) -> None:
        _LOG.error("What came of a run cannot be stored.", exc_info=error)
        fault = error if isinstance(error, DsfnError) else DsfnError(f"The node failed: {error!r}.")
        if entry.refused is not None:
            entry.refused(fault)
        elif entry.run is not None:
            self.broken(entry.run, fault)
