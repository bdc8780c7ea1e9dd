"""The usage rows of runs on their way to the ledger: after the engine has stored them itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import field
from functools import partial
from typing import Any

from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict
from dsfn.functions.values import dataclass
from dsfn.runtime.workflows.journal import Journal

_PAUSE_S = 1.0
# Rows that are stored already are not in a hurry: this way many share one commit of the ledger.
_SOON_S = 0.02
_MAX_OWED = 200
_LOG = logging.getLogger("dsfn.workflows")
Owed = tuple[int, Usage]
Errors = Sequence[Exception | None]
# Posts rows; the callback gets what came of each.
Post = Callable[[Sequence[Usage], Callable[[Errors], None]], None]
_Then = Callable[[], Any]


@dataclass(eq=False, slots=True)
class Books:
    """Posts rows in the order of their numbers, some at a time."""

    journal: Journal
    post: Post
    _owed: list[Owed] = field(default_factory=list)
    _thens: list[_Then] = field(default_factory=list)
    _posted_up_to: int = 0
    _is_posting: bool = False
    _held_up: bool = False
    _timer: asyncio.TimerHandle | None = None

    def recover(self, post: Callable[[Sequence[Usage]], Errors]) -> None:
        """Posts at once what a node that was killed had not. Raises why that cannot be."""
        for portion in self.journal.owed():
            rows = [usage for _, usage in portion]
            for error in _later(post(rows)):
                raise error
            self._posted_up_to = portion[-1][0]

    def owe(self, rows: Sequence[Owed]) -> None:
        """Takes rows that are stored, to be posted soon."""
        self._owed.extend(rows)
        if len(self._owed) >= _MAX_OWED and not self._held_up:
            self.settle()
        elif self._owed:
            self._settle_in(_SOON_S)

    def settle(self, then: _Then | None = None) -> None:
        """Posts what is owed, now or later, when the ledger's disk is full or it is locked; `then`
        follows once that was tried."""
        if then is not None:
            self._thens.append(then)
        if not self._is_posting:
            self._post_owed()

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

    def _post_owed(self) -> None:
        rows, self._owed = self._owed, []
        thens, self._thens = self._thens, []
        if rows:
            self._is_posting = True
            self.post([usage for _, usage in rows], partial(self._posted, rows, thens))
        else:
            for then in thens:
                then()

    def _posted(self, rows: Sequence[Owed], thens: Sequence[_Then], errors: Errors) -> None:
        self._is_posting = False
        later = _later(errors)
        left = [row for row, error in zip(rows, errors, strict=True) if error in later]
        self._owed[:0] = left
        self._posted_up_to = left[0][0] - 1 if left else rows[-1][0]
        self._held_up = bool(left)
        if left:
            _LOG.warning("The ledger cannot be written now: %s", later[0])
            self._settle_in(_PAUSE_S)
        for then in thens:
            then()
        if self._thens:
            self._post_owed()
        else:
            self.owe(())


def _later(errors: Errors) -> list[Exception]:
    """Those of the rows that are owed still."""
    for error in errors:
        if isinstance(error, Conflict):
            # It is in the books already, as what another row says: it cannot be there twice.
            _LOG.error("The ledger refuses a row of a run: %s", error.message)
    return [each for each in errors if each is not None and not isinstance(each, Conflict)]
