"""Usage rows on their way to the ledger: committed in groups, before any answer leaves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from dsfn.billing.ledger import Ledger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict, DsfnError


@dataclass(eq=False)
class Meter:
    """Posts usage rows. All rows that come up in one turn of the event loop share one commit,
    so a busy node commits once for many calls and an idle one without delay."""

    ledger: Ledger
    _waiting: list[tuple[Usage, asyncio.Future[None]]] = field(default_factory=list)

    async def post(self, row: Usage) -> None:
        """Returns when the row is committed. Raises `StorageFull`, `Conflict`."""
        loop = asyncio.get_running_loop()
        committed: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._commit)
        self._waiting.append((row, committed))
        await committed

    def flush(self) -> None:
        """Writes down what was used up to now."""
        self._commit()

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            self.ledger.post([row for row, _ in waiting])
        except Conflict:
            # One row of the group is refused: the others must not suffer for it.
            for entry in waiting:
                self._commit_one(*entry)
        except DsfnError as error:
            for _, committed in waiting:
                _fail(committed, error)
        else:
            for _, committed in waiting:
                _succeed(committed)

    def _commit_one(self, row: Usage, committed: asyncio.Future[None]) -> None:
        try:
            self.ledger.post([row])
        except DsfnError as error:
            _fail(committed, error)
        else:
            _succeed(committed)


def _succeed(committed: asyncio.Future[None]) -> None:
    if not committed.done():
        committed.set_result(None)


def _fail(committed: asyncio.Future[None], error: DsfnError) -> None:
    if not committed.done():
        committed.set_exception(error)
