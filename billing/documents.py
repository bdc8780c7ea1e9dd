"""Closed months and documents, kept beside the journal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

from dsfn.billing.issued import ClosedMonth, Issue, Issued
from dsfn.billing.posting import Posting
from dsfn.billing.queries import Execute, Values
from dsfn.billing.record import record_of_month
from dsfn.functions.values import dataclass


def closed_until_us(execute: Execute) -> int:
    """The end of the last closed month, 0 while none is."""
    ((end_us,),) = execute("select_closed_until", ())
    return int(end_us)


def rows_of(issue: Issue) -> list[Posting]:
    """The rows of the journal for an issue."""
    closed = [] if issue.month is None else [record_of_month(issue.month)]
    return [*issue.charges, *closed]


def insert_issue(execute: Execute, issue: Issue) -> None:
    """Keeps documents, and the month that they close. To be called in a transaction."""
    for document in issue.documents:
        execute("insert_document", astuple(document))
    if issue.month is not None:
        execute("insert_month", astuple(issue.month))


@dataclass(frozen=True, slots=True)
class KeptDocuments:
    """The `Documents` of a ledger. `read` executes what reads; `keep` has something be written
    in a transaction."""

    read: Execute
    keep: Callable[[Callable[[Execute], None]], None]

    def month(self, month: str) -> ClosedMonth | None:
        """A month that is closed."""
        found = self.read("select_month", (month,))
        return ClosedMonth(*found[0]) if found else None

    def get(self, number: str) -> Issued | None:
        """A document by its number."""
        return self._one("select_document", (number,))

    def of_key(self, key: str) -> Issued | None:
        """A document by the idempotency key under which it was asked for."""
        return self._one("select_document_of_key", (key,))

    def all(self, month: str = "", tenant: str = "") -> list[Issued]:
        """Documents by months and numbers; "" is every month, every tenant."""
        bindings = {"month": month, "tenant": tenant}
        return [Issued(*values) for values in self.read("select_documents", bindings)]

    def credit_notes(self, number: str) -> list[Issued]:
        """The credit notes on an invoice, in the order of their issue."""
        return [Issued(*values) for values in self.read("select_credit_notes", (number,))]

    def numbered(self, prefix: str) -> int:
        """How many documents have numbers that begin like this."""
        ((count,),) = self.read("count_numbered", {"prefix": prefix})
        return int(count)

    def charged_nano(self, number: str, tenant: str) -> int | None:
        """The amount of the journal's row for a document, None when there is no such row."""
        found = self.read("select_charge", (number, tenant))
        return int(found[0][0]) if found else None

    def printed(self, number: str, format: str) -> bytes | None:
        """A document as it was printed in a format for the first time."""
        found = self.read("select_print", (number, format))
        return bytes(found[0][0]) if found else None

    def keep_print(self, number: str, format: str, content: bytes) -> bytes:
        """Keeps how a document was printed, unless it was before; the print that is kept."""

        def insert(execute: Execute) -> None:
            if not execute("select_print", (number, format)):
                execute("insert_print", (number, format, content))

        self.keep(insert)
        kept = self.printed(number, format)
        assert kept is not None
        return kept

    def _one(self, query: str, values: Values) -> Issued | None:
        found = self.read(query, values)
        return Issued(*found[0]) if found else None
