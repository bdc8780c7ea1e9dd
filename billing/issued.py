"""Documents as they were issued: numbered, signed and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dsfn.billing.charge import Charge, ChargeKind


class Signer(Protocol):
    """The ledger's key."""

    @property
    def public_key(self) -> str:
        """Its public half: 32 bytes of Ed25519, in hex."""

    def sign(self, content: bytes) -> bytes:
        """The signature of some bytes."""


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
