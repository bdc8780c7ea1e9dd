"""The usage rows of runs on their way to the ledger: after the engine has stored them itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, StorageFull, StoreUnavailable
from dsfn.runtime.workflows.journal import Journal

_PAUSE_S = 1.0
# Rows that are stored already are not in a hurry: this way many share one commit of the ledger.
_SOON_S = 0.02
_MAX_OWED = 200
_LOG = logging.getLogger("dsfn.workflows")


@dataclass(eq=False, slots=True)
class Books:
    """Posts rows in the order of their numbers. `post` writes all of some rows or none."""

    journal: Journal
    post: Callable[[Sequence[Usage]], None]
    _owed: list[tuple[int, Usage]] = field(default_factory=list)
    _posted_up_to: int = 0
    _held_up: bool = False
    _timer: asyncio.TimerHandle | None = None

    def recover(self) -> None:
        """Posts what a node that was killed had not. Raises `StorageFull`."""
        for portion in self.journal.owed():
            self._post(portion)

    def owe(self, rows: Sequence[tuple[int, Usage]]) -> None:
        """Takes rows that are stored, to be posted soon."""
        self._owed.extend(rows)
        if len(self._owed) >= _MAX_OWED and not self._held_up:
            self.settle()
        elif self._owed:
            self._settle_in(_SOON_S)

    def settle(self) -> None:
        """Posts what is owed, now or later, when the ledger's disk is full or it is locked."""
        if not self._owed:
            return
        try:
            self._post(self._owed)
        except (StorageFull, StoreUnavailable) as error:
            _LOG.warning("The ledger cannot be written now: %s", error.message)
            self._held_up = True
            self._settle_in(_PAUSE_S)
        else:
            self._owed, self._held_up = [], False

    def note(self) -> None:
        """Forgets the rows that the ledger has, inside the caller's transaction."""
        if self._posted_up_to:
            self.journal.posted(self._posted_up_to)
            self._posted_up_to = 0

    def close(self) -> None:
        """Posts nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _settle_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._again)

    def _again(self) -> None:
        self._timer = None
        self.settle()

    def _post(self, rows: Sequence[tuple[int, Usage]]) -> None:
        try:
            self.post([usage for _, usage in rows])
        except Conflict:
            for _, usage in rows:
                self._post_alone(usage)
        self._posted_up_to = rows[-1][0]

    def _post_alone(self, usage: Usage) -> None:
        try:
            self.post([usage])
        except Conflict as error:
            # It is in the books already, as what another row says: it cannot be there twice.
            _LOG.error("The ledger refuses a row of a run: %s", error.message)
