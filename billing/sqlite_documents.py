"""Closed months and documents, as SQLite keeps them beside the journal."""

from __future__ import annotations

from dataclasses import astuple

import apsw

from dsfn.billing.issued import ClosedMonth, Issue, Issued
from dsfn.billing.sqlite import load_queries

_QUERIES = load_queries("dsfn.billing", "sql/documents.sql")
SCHEMA = _QUERIES["schema"]


def closed_until_us(connection: apsw.Connection) -> int:
    """The end of the last closed month, 0 while none is."""
    ((end_us,),) = connection.execute(_QUERIES["select_closed_until"])
    return int(end_us)


def insert(connection: apsw.Connection, issue: Issue) -> None:
    """Keeps documents, and the month that they close. To be called in a transaction."""
    connection.executemany(_QUERIES["insert_document"], map(astuple, issue.documents))
    if issue.month is not None:
        connection.execute(_QUERIES["insert_month"], astuple(issue.month))


def closed_month(connection: apsw.Connection, month: str) -> ClosedMonth | None:
    """A month that is closed."""
    found = connection.execute(_QUERIES["select_month"], (month,)).fetchone()
    return None if found is None else ClosedMonth(*found)


def document(connection: apsw.Connection, number: str) -> Issued | None:
    """A document by its number."""
    return _one(connection, "select_document", number)


def document_of_key(connection: apsw.Connection, key: str) -> Issued | None:
    """A document by the key under which it was asked for."""
    return _one(connection, "select_document_of_key", key)


def documents(connection: apsw.Connection, month: str, tenant: str) -> list[Issued]:
    """Documents by months and numbers; "" is every month, every tenant."""
    bindings = {"month": month, "tenant": tenant}
    found = connection.execute(_QUERIES["select_documents"], bindings)
    return [Issued(*values) for values in found]


def credit_notes(connection: apsw.Connection, number: str) -> list[Issued]:
    """The credit notes on an invoice, in the order of their issue."""
    found = connection.execute(_QUERIES["select_credit_notes"], (number,))
    return [Issued(*values) for values in found]


def numbered(connection: apsw.Connection, prefix: str) -> int:
    """How many documents have numbers that begin like this."""
    ((count,),) = connection.execute(_QUERIES["count_numbered"], {"prefix": prefix})
    return int(count)


def charged_nano(connection: apsw.Connection, number: str, tenant: str) -> int | None:
    """The amount of the journal's row for a document."""
    found = connection.execute(_QUERIES["select_charge"], (number, tenant)).fetchone()
    return None if found is None else int(found[0])


def printed(connection: apsw.Connection, number: str, format: str) -> bytes | None:
    """A document as it was printed in a format for the first time."""
    found = connection.execute(_QUERIES["select_print"], (number, format)).fetchone()
    return None if found is None else bytes(found[0])


def insert_print(connection: apsw.Connection, number: str, format: str, content: bytes) -> None:
    """Keeps how a document was printed."""
    connection.execute(_QUERIES["insert_print"], (number, format, content))


def _one(connection: apsw.Connection, query: str, key: str) -> Issued | None:
    found = connection.execute(_QUERIES[query], (key,)).fetchone()
    return None if found is None else Issued(*found)
