"""Usage rows on the node's disk, from the moment that a pod has them until the ledger does."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TypeVar

import apsw

from dsfn.billing.nobodys import nobodys
from dsfn.billing.posting_document import Measured, posting_document, read_posting
from dsfn.billing.sqlite import connect, load_queries, transaction
from dsfn.billing.usage import Usage
from dsfn.functions.errors import DsfnError, StorageFull, StoreUnavailable
from dsfn.functions.values import dataclass

# Some minutes of a busy node while the control service is away.
MAX_ROWS = 200_000
MAX_BYTES = 256 << 20
RETRY_AFTER_S = 10.0

_SQL = load_queries("dsfn.knative.agent", "sql/outbox.sql")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that the ledger is to get; `number` says which, in the order of arrival."""

    number: int
    row: Measured


@dataclass(eq=False)
class Outbox:
    """One SQLite file. What is written in `together` is on the disk when that returns, and
    survives the end of the agent, of every pod and of the machine.

    A call's reservation counts as a row: whoever has one finds room for the row that takes its
    place. Belongs to one thread.
    """

    path: Path
    max_rows: int = MAX_ROWS
    max_bytes: int = MAX_BYTES
    rows: int = 0
    bytes: int = 0
    _connection: apsw.Connection = field(init=False)

    def __post_init__(self) -> None:
        self._connection = connect(self.path, _SQL["schema"])
        self._connection.execute("PRAGMA synchronous=FULL")
        # Every commit waits for the disk here: it may as well empty the log now and then.
        self._connection.execute("PRAGMA wal_autocheckpoint=1000")
        self._count()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def together(self, changes: Sequence[Callable[[], T]]) -> list[T | DsfnError]:
        """Carries out changes in one commit. What came of each; one that is refused leaves the
        others alone. Raises `StorageFull` when none is on the disk."""
        try:
            with transaction(self._connection):
                return [_tried(change) for change in changes]
        except BaseException:
            self._count()
            raise

    def reserve(self, pod: str, row: Usage) -> None:
        """A call is about to run: `row` is what is posted of it if the pod does not. Raises
        `StoreUnavailable` when the outbox is full."""
        document = _text(row)
        self._require_room(document)
        self._connection.execute(_SQL["reserve"], (row.invocation_id, pod, document))
        self._grow(document)

    def release(self, call: str) -> None:
        """A call leaves no row."""
        for (document,) in self._connection.execute(_SQL["release"], (call,)).fetchall():
            self._shrink(str(document))

    def post(self, rows: Sequence[Measured]) -> list[int]:
        """Takes rows; the indices of those that contradict one which waits. Raises
        `StoreUnavailable`, having taken none, when there is no room."""
        documents = [(row, _text(row)) for row in rows]
        self._require_room(*(text for row, text in documents if not self._is_reserved(row)))
        for row in rows:
            if isinstance(row, Usage):
                self.release(row.invocation_id)
        taken = [self._append(row, text) for row, text in documents]
        return [number for number, is_taken in enumerate(taken) if not is_taken]

    def has(self, call: str) -> bool:
        """Whether a call's row waits here."""
        return bool(self._connection.execute(_SQL["find"], (call,)).fetchall())

    def pods(self) -> dict[str, int | None]:
        """Those that have reservations, and since when they are not there."""
        found = self._connection.execute(_SQL["pods"])
        return {str(pod): None if at_us is None else int(str(at_us)) for pod, at_us in found}

    def leave(self, pod: str, at_us: int | None) -> None:
        """A pod is not there since then; None: it is there again."""
        self._connection.execute(_SQL["leave"], (pod, at_us))

    def fail(self, pod: str, ended_at_us: int) -> int:
        """A pod has ended with calls under way: how many. What each took until then is the
        platform's, as it is when a node's worker is killed."""
        documents = self._connection.execute(_SQL["reserved"], (pod,)).fetchall()
        for (document,) in documents:
            row = read_posting(json.loads(str(document)))
            assert isinstance(row, Usage)
            held_us = max(0, ended_at_us - row.started_at_us)
            self.post([replace(row, held_us=held_us, busy_us=held_us)])
        return len(documents)

    def first(self, limit: int) -> list[Waiting]:
        """The rows that have waited longest."""
        found = self._connection.execute(_SQL["first"], (limit,))
        return [Waiting(number, read_posting(json.loads(text))) for number, text in found]

    def forget(self, taken: Sequence[Waiting], refused: Collection[int]) -> None:
        """The ledger has these, or, where the index is in `refused`, never will."""
        for number, each in enumerate(taken):
            for (text,) in self._connection.execute(_SQL["forget"], (each.number,)).fetchall():
                self._shrink(str(text))
            if number in refused and isinstance(each.row, Usage) and each.row.idempotency_key:
                # Another pod has had it already: the answer was as good, and nobody pays twice.
                for interval in nobodys(each.row):
                    self._append(interval, _text(interval))

    def _append(self, row: Measured, document: str) -> bool:
        key = _key(row)
        self._connection.execute(_SQL["append"], (key, document))
        if self._connection.changes():
            self._grow(document)
            return True
        return self._connection.execute(_SQL["find"], (key,)).fetchall() == [(document,)]

    def _is_reserved(self, row: Measured) -> bool:
        found = self._connection.execute(_SQL["is_reserved"], (_key(row),))
        return bool(found.fetchall())

    def _require_room(self, *documents: str) -> None:
        size = sum(map(len, documents))
        if documents and (
            self.rows + len(documents) > self.max_rows or self.bytes + size > self.max_bytes
        ):
            raise full()

    def _count(self) -> None:
        ((rows, size),) = self._connection.execute(_SQL["totals"]).fetchall()
        self.rows, self.bytes = int(str(rows)), int(str(size))

    def _grow(self, document: str) -> None:
        self.rows, self.bytes = self.rows + 1, self.bytes + len(document)

    def _shrink(self, document: str) -> None:
        self.rows, self.bytes = self.rows - 1, self.bytes - len(document)


def full() -> StoreUnavailable:
    """Why nothing is taken any more."""
    return StoreUnavailable(
        "The node has no room left for usage that waits for the control service.",
        reason="full",
        retry_after_s=RETRY_AFTER_S,
    )


def _tried(change: Callable[[], T]) -> T | DsfnError:
    try:
        return change()
    except StorageFull:
        raise
    except DsfnError as error:
        return error


def _key(row: Measured) -> str:
    return row.invocation_id if isinstance(row, Usage) else row.id


def _text(row: Measured) -> str:
    return json.dumps(posting_document(row), separators=(",", ":"))
