"""Who sends a bill and who gets it, as the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, fields
from typing import Any

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

MAX_TEXT_LENGTH = 200
MAX_ADDRESS_LINES = 6
MAX_DUE_DAYS = 365
MAX_FONTS = 8


@dataclass(frozen=True, slots=True)
class Party:
    """A company or person: `name`, lines of an `address`, `tax_id` and `email`; "" for none."""

    name: str
    address: tuple[str, ...] = ()
    tax_id: str = ""
    email: str = ""

    def to_document(self) -> dict[str, Any]:
        """This party as a JSON-able document that `from_document` reads back."""
        return {**asdict(self), "address": list(self.address)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Party:
        """The party of a document that `to_document` made."""
        return cls(**{**document, "address": tuple(document["address"])})


@dataclass(frozen=True, slots=True)
class Parties:
    """The sender of all bills, the customers by tenant, and how the bills are to be paid.

    `due_days`: after the day of issue. `terms`: what else an invoice says, such as a bank account.
    `fonts`: files that PDFs take characters from which their own font has not.
    """

    issuer: Party = Party("dsfn")
    customers: Mapping[str, Party] = field(default_factory=dict)
    due_days: int = 30
    terms: str = ""
    fonts: tuple[str, ...] = ()

    def customer(self, tenant: str) -> Party:
        """The customer of a tenant: without an entry, the tenant's own name."""
        return self.customers.get(tenant, Party(tenant))


def read_parties(table: Mapping[str, Any]) -> Parties:
    """The parties of the configuration's `[invoices]` table. Raises `UsageError` that names the
    key."""
    _known(table, "invoices", {"issuer", "customers", "due_days", "terms", "fonts"})
    standard = Parties()
    due_days = table.get("due_days", standard.due_days)
    if type(due_days) is not int or not 0 <= due_days <= MAX_DUE_DAYS:
        raise UsageError(f"invoices.due_days must be a whole number from 0 to {MAX_DUE_DAYS}.")
    customers = _table(table.get("customers", {}), "invoices.customers")
    issuer = table.get("issuer")
    return Parties(
        issuer=standard.issuer if issuer is None else _party(issuer, "invoices.issuer"),
        customers={n: _party(each, f"invoices.customers.{n}") for n, each in customers.items()},
        due_days=due_days,
        terms=_text(table.get("terms", ""), "invoices.terms"),
        fonts=_lines(table.get("fonts", []), "invoices.fonts", MAX_FONTS),
    )


def _party(value: object, key: str) -> Party:
    table = _table(value, key)
    _known(table, key, {each.name for each in fields(Party)})
    name = _text(table.get("name", ""), f"{key}.name")
    if not name:
        raise UsageError(f"{key}.name must be there.")
    return Party(
        name=name,
        address=_lines(table.get("address", []), f"{key}.address", MAX_ADDRESS_LINES),
        tax_id=_text(table.get("tax_id", ""), f"{key}.tax_id"),
        email=_text(table.get("email", ""), f"{key}.email"),
    )


def _lines(value: object, key: str, limit: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > limit:
        raise UsageError(f"{key} must be a list of at most {limit} texts.")
    return tuple(_text(line, key) for line in value)


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT_LENGTH or not value.isprintable():
        raise UsageError(f"{key} must be a text of at most {MAX_TEXT_LENGTH} characters.")
    return value


def _table(value: object, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{key} must be a table.")
    return value


def _known(table: Mapping[str, Any], key: str, known: set[str]) -> None:
    for name in table:
        if name not in known:
            raise UsageError(
                f"{key}.{name} is not a setting; there are {', '.join(sorted(known))}."
            )
