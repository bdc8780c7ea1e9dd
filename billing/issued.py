"""Documents as they were issued: numbered, signed and never changed."""

from __future__ import annotations

from typing import Protocol

from dsfn.billing.charge import Charge, ChargeKind
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Issued:
    """An invoice or a credit note as it is kept.

    `document`: its canonical JSON, of which `sha256` is and `signature` (Ed25519, in hex), made
    with the key whose public half is `public_key`. `reverses`: of a credit note, the number of its
    invoice. `idempotency_key`: under which a credit note was asked for.
    """

    number: str
    kind: ChargeKind
    month: str
    tenant: str
    total_minor: int
    issued_at_us: int
    reverses: str
    idempotency_key: str
    document: str
    sha256: str
    public_key: str
    signature: str


@dataclass(frozen=True, slots=True)
class ClosedMonth:
    """A month that is closed. `document`: the canonical JSON of its statement of all tenants by
    function, of which `sha256` is."""

    month: str
    end_us: int
    closed_at_us: int
    document: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Issue:
    """What is kept at once: all of it or nothing. `month`: which it closes, if it closes one."""

    documents: tuple[Issued, ...]
    charges: tuple[Charge, ...]
    month: ClosedMonth | None = None


class Documents(Protocol):
    """The documents and closed months of a ledger. May be used in any thread."""

    def month(self, month: str) -> ClosedMonth | None:
        """A month that is closed."""

    def get(self, number: str) -> Issued | None:
        """A document by its number."""

    def of_key(self, key: str) -> Issued | None:
        """A document by the idempotency key under which it was asked for."""

    def all(self, month: str = "", tenant: str = "") -> list[Issued]:
        """Documents by months and numbers; "" is every month, every tenant."""

    def credit_notes(self, number: str) -> list[Issued]:
        """The credit notes on an invoice, in the order of their issue."""

    def numbered(self, prefix: str) -> int:
        """How many documents have numbers that begin like this."""

    def charged_nano(self, number: str, tenant: str) -> int | None:
        """The amount of the journal's row for a document, None when there is no such row."""

    def printed(self, number: str, format: str) -> bytes | None:
        """A document as it was printed in a format for the first time."""

    def keep_print(self, number: str, format: str, content: bytes) -> bytes:
        """Keeps how a document was printed, unless it was before; the print that is kept."""
