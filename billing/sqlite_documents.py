"""Closed months and documents, as SQLite keeps them beside the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from typing import Any

import apsw

from dsfn.billing.issued import ClosedMonth, Issue, Issued
from dsfn.billing.sqlite import load_queries

_QUERIES = load_queries("dsfn.billing", "sql/documents.sql")
SCHEMA = _QUERIES["schema"]


def closed_until_us(connection: apsw.Connection) -> int:
    """The end of the last closed month, 0 while none is."""
    ((end_us,),) = connection.execute(_QUERIES["select_closed_until"])
    return int(end_us)


def insert_issue(connection: apsw.Connection, issue: Issue) -> None:
    """Keeps documents, and the month that they close. To be called in a transaction."""
    connection.executemany(_QUERIES["insert_document"], map(astuple, issue.documents))
    if issue.month is not None:
        connection.execute(_QUERIES["insert_month"], astuple(issue.month))


@dataclass(frozen=True, slots=True)
class SqliteDocuments:
    """The `Documents` of a ledger in a SQLite file. `reader` opens a connection to read with;
    `keep` has something be written in a transaction."""

    reader: Callable[[], apsw.Connection]
    keep: Callable[[Callable[[apsw.Connection], None]], None]

    def month(self, month: str) -> ClosedMonth | None:
        """A month that is closed."""
        found = self._rows("select_month", (month,))
        return ClosedMonth(*found[0]) if found else None

    def get(self, number: str) -> Issued | None:
        """A document by its number."""
        return self._one("select_document", number)

    def of_key(self, key: str) -> Issued | None:
        """A document by the idempotency key under which it was asked for."""
        return self._one("select_document_of_key", key)

    def all(self, month: str = "", tenant: str = "") -> list[Issued]:
        """Documents by months and numbers; "" is every month, every tenant."""
        bindings = {"month": month, "tenant": tenant}
        return [Issued(*values) for values in self._rows("select_documents", bindings)]

    def credit_notes(self, number: str) -> list[Issued]:
        """The credit notes on an invoice, in the order of their issue."""
        return [Issued(*values) for values in self._rows("select_credit_notes", (number,))]

    def numbered(self, prefix: str) -> int:
        """How many documents have numbers that begin like this."""
        ((count,),) = self._rows("count_numbered", {"prefix": prefix})
        return int(count)

    def charged_nano(self, number: str, tenant: str) -> int | None:
        """The amount of the journal's row for a document, None when there is no such row."""
        found = self._rows("select_charge", (number, tenant))
        return int(found[0][0]) if found else None

    def printed(self, number: str, format: str) -> bytes | None:
        """A document as it was printed in a format for the first time."""
        found = self._rows("select_print", (number, format))
        return bytes(found[0][0]) if found else None

    def keep_print(self, number: str, format: str, content: bytes) -> bytes:
        """Keeps how a document was printed, unless it was before; the print that is kept."""
        values = (number, format, content)
        self.keep(lambda connection: _insert_print(connection, values))
        kept = self.printed(number, format)
        assert kept is not None
        return kept

    def _one(self, query: str, key: str) -> Issued | None:
        found = self._rows(query, (key,))
        return Issued(*found[0]) if found else None

    def _rows(self, query: str, bindings: Sequence[str] | Mapping[str, str]) -> list[Any]:
        with closing(self.reader()) as connection:
            return connection.execute(_QUERIES[query], bindings).fetchall()


def _insert_print(connection: apsw.Connection, values: tuple[str, str, bytes]) -> None:
    if not connection.execute(_QUERIES["select_print"], values[:2]).fetchall():
        connection.execute(_QUERIES["insert_print"], values)
