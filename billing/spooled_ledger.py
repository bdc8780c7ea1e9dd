"""A ledger with a spool before it: a row is durable at once, and posted a little later.

    post        the ledger has the rows when it returns, and has said what it thinks of them
    post_soon   they are on the disk; the ledger gets them with others, and before anybody reads it

Whatever else is asked of it comes after the rows that wait: who has been answered finds the row.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, Protocol

from dsfn.billing.checkpoints import Checkpoint
from dsfn.billing.evidence import NO_EVIDENCE, Evidence
from dsfn.billing.issued import Documents, Issue
from dsfn.billing.ledger import Ledger
from dsfn.billing.nobodys import nobodys
from dsfn.billing.posting import Posting
from dsfn.billing.posting_document import Spooled, posting_document
from dsfn.billing.queries import Values
from dsfn.billing.rates.table import CardTable
from dsfn.billing.reading import LedgerReads
from dsfn.billing.signing import SigningKey
from dsfn.billing.spool import Spool
from dsfn.billing.usage import Usage
from dsfn.billing.verification import Verification
from dsfn.billing.verify import Books
from dsfn.functions.errors import Conflict, DsfnError, StorageFull, StoreUnavailable

# A commit of so many rows takes some milliseconds.
SHARE_ROWS = 100
_LOG = logging.getLogger("dsfn.ledger")


class Database(Ledger, Protocol):
    """A ledger that keeps its rows in a database."""

    def _read(self, query: str, values: Values) -> list[Any]: ...

    def stream(self, query: str, values: Values = ()) -> Iterator[Any]:
        """See `LedgerReads`."""


class SpooledLedger(LedgerReads):
    """A `Ledger` over one in a database. Its methods may be called in any thread that those of the
    database may; `post_soon` in one.

    Reading raises what posting raises: rows that wait and cannot be posted are not left out.
    """

    def __init__(self, ledger: Database, spool: Spool) -> None:
        """Posts what a writer that was killed has left. Raises `StorageFull`,
        `StoreUnavailable`."""
        self._ledger, self._spool = ledger, spool
        self._posting = Lock()
        self._posted = 0  # of the rows that are taken
        self._is_full = False
        # Is called in the thread of `post_soon` when rows wait.
        self.waiting: Callable[[], None] = lambda: None
        self.drain()

    @property
    def rows_waiting(self) -> int:
        """How many rows the ledger does not have yet."""
        return self._spool.rows - self._posted

    def post_soon(self, rows: Sequence[Spooled]) -> None:
        """Writes all of `rows` or none to the spool; when it returns they survive what rows of the
        ledger survive. Where the spool has no room, this is `post`, and raises what that raises.

        For rows whose ids and idempotency keys nobody else has: one that the ledger refuses later
        is an error in the log, and its time nobody's.
        """
        if not self._is_full:
            try:
                self._spool.add(rows)
            except (StorageFull, StoreUnavailable):
                pass
            else:
                self.waiting()
                return
        self.post(rows)

    def post(self, rows: Sequence[Posting]) -> None:
        """See `Ledger`: the rows that wait come first."""
        self.drain()
        with self._noticed():
            self._ledger.post(rows)

    def post_share(self) -> None:
        """Posts some of the rows that wait. Raises as `drain`."""
        with self._posting, self._noticed():
            self._post_share()

    def drain(self) -> None:
        """Posts all rows that wait now. Raises `StorageFull`, `StoreUnavailable`: they go on
        waiting then."""
        if not self._spool.rows:
            return
        with self._posting, self._noticed():
            # What is taken already; then what has come meanwhile.
            for _ in range(2):
                while self._post_share():
                    pass

    def sync(self) -> None:
        """Has the rows that wait survive a loss of power, however long that is."""
        self._spool.sync()

    def correct(self, invocation_id: str, replacement: Usage) -> None:
        """See `Ledger`."""
        self.drain()
        self._ledger.correct(invocation_id, replacement)

    @property
    def closed_until_us(self) -> int:
        """See `Ledger`."""
        return self._ledger.closed_until_us

    @property
    def documents(self) -> Documents:
        """See `Ledger`."""
        return self._ledger.documents

    def start_closing(self, end_us: int) -> None:
        """See `Ledger`: what was answered before belongs to the month."""
        self.drain()
        self._ledger.start_closing(end_us)

    def issue(self, issue: Issue) -> None:
        """See `Ledger`."""
        self._ledger.issue(issue)

    def close_leases(self) -> None:
        """See `Ledger`."""
        self.drain()
        self._ledger.close_leases()

    def build_paddings(self, limit: int) -> int:
        """See `Ledger`: rows that wait are counted when they are posted."""
        return self._ledger.build_paddings(limit)

    @property
    def unsigned_rows(self) -> int:
        """See `Ledger`."""
        return self._ledger.unsigned_rows

    def checkpoint(self, key: SigningKey, now_us: int) -> Checkpoint | None:
        """See `Ledger`."""
        self.drain()
        return self._ledger.checkpoint(key, now_us)

    def rotate(self, key: SigningKey, next_key: SigningKey, now_us: int) -> None:
        """See `Ledger`."""
        self.drain()
        self._ledger.rotate(key, next_key, now_us)

    def books(self) -> Books:
        """See `Ledger`."""
        self.drain()
        return self._ledger.books()

    def verify(self, evidence: Evidence = NO_EVIDENCE) -> Verification:
        """See `Ledger`: damage of the spool is a problem, too."""
        self.drain()
        return self._ledger.verify(evidence).and_also(self._spool.problems)

    def cards(self) -> CardTable:
        """See `Ledger`."""
        return self._ledger.cards()

    def close(self) -> None:
        """See `Ledger`: what cannot be posted waits for the next start."""
        try:
            self.drain()
        except DsfnError as error:
            _LOG.warning("%d rows wait in the spool: %s", self.rows_waiting, error.message)
        finally:
            self._spool.close()
            self._ledger.close()

    def _read(self, query: str, values: Values) -> list[Any]:
        self.drain()
        return self._ledger._read(query, values)

    def stream(self, query: str, values: Values = ()) -> Iterator[Any]:
        """See `LedgerReads`."""
        self.drain()
        return self._ledger.stream(query, values)

    def _post_share(self) -> bool:
        """Whether more waits of what is taken."""
        taken = self._spool.taken()
        share = taken[self._posted : self._posted + SHARE_ROWS]
        if share:
            self._post_waiting(share)
            self._posted += len(share)
        if self._posted < len(taken):
            return True
        if taken:
            self._spool.posted()
            self._posted = 0
        return False

    def _post_waiting(self, rows: Sequence[Spooled]) -> None:
        try:
            self._ledger.post(rows)
        except Conflict:
            for row in rows:
                self._post_or_refuse(row)

    def _post_or_refuse(self, row: Spooled) -> None:
        try:
            self._ledger.post([row])
        except Conflict as error:
            document = json.dumps(posting_document(row))
            _LOG.error("The ledger refuses a row of its spool: %s %s", error.message, document)
            if isinstance(row, Usage):
                with suppress(Conflict):
                    self._ledger.post(nobodys(row))

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        """Notes whether there is room for what is posted."""
        try:
            yield
        except StorageFull:
            self._is_full = True
            raise
        self._is_full = False
