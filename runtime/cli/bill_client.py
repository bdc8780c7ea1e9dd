"""A typed client of a node's bills and invoices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from dsfn.runtime.cli.bill_documents import (
    ClosedDocument,
    CorrectionDocument,
    InvoiceCheckDocument,
    InvoiceRowDocument,
    StatementDocument,
)
from dsfn.runtime.cli.transport import CALL_TIMEOUT_S, Transport


class BillClient(Transport):
    """One node: what was used, what it costs, and the invoices."""

    def bill(self, query: Mapping[str, str]) -> StatementDocument:
        """What was used in a stretch of time, as `GET /bill` takes it."""
        with self._open("GET", "/bill", params=query, timeout_s=CALL_TIMEOUT_S) as response:
            statement: StatementDocument = json.loads(response.read())
            return statement

    def bill_as(self, query: Mapping[str, str], format: str) -> bytes:
        """The same in another format."""
        given = {**query, "format": format}
        with self._open("GET", "/bill", params=given, timeout_s=CALL_TIMEOUT_S) as response:
            return response.read()

    def close_month(self, month: str) -> ClosedDocument:
        """Closes a month, or finds it closed."""
        path = f"/months/{quote(month, safe='')}/close"
        with self._open("POST", path, timeout_s=CALL_TIMEOUT_S) as response:
            closed: ClosedDocument = json.loads(response.read())
            return closed

    def invoices(self, month: str, tenant: str) -> list[InvoiceRowDocument]:
        """Invoices and credit notes; "" is every month, every tenant."""
        given = {"month": month, "tenant": tenant}
        query = {name: value for name, value in given.items() if value}
        found: list[InvoiceRowDocument] = self._json("GET", "/invoices", params=query)["invoices"]
        return found

    def invoice(self, number: str, format: str = "json") -> bytes:
        """A document's own bytes, or those of it in another format."""
        query = {"format": format}
        with self._open("GET", _path(number), params=query, timeout_s=CALL_TIMEOUT_S) as response:
            return response.read()

    def verify_invoice(self, number: str) -> InvoiceCheckDocument:
        """Whether a document is what was issued."""
        with self._open("GET", _path(number, "verify"), timeout_s=CALL_TIMEOUT_S) as response:
            check: InvoiceCheckDocument = json.loads(response.read())
            return check

    def credit(self, number: str, amount: str, reason: str, key: str) -> bytes:
        """Issues a credit note; its own bytes."""
        content = json.dumps({"amount": amount, "reason": reason}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        with self._open(
            "POST", _path(number, "credits"), content=content, headers=headers
        ) as response:
            return response.read()

    def correct(self, invocation_id: str, body: Mapping[str, object]) -> CorrectionDocument:
        """Puts another row in the place of a call's."""
        path = f"/usage/{quote(invocation_id, safe='')}/correction"
        document: CorrectionDocument = self._json("POST", path, body=body)
        return document


def _path(number: str, *rest: str) -> str:
    return "/".join(["/invoices", quote(number, safe=""), *rest])
