"""What is posted, as JSON: for whoever measures on another machine than the ledger's, and for rows
that wait for the ledger.

A document has the fields of `Usage`, `Interval` or `Reservation`, and what it is as "posting".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from dsfn.billing.interval import Interval
from dsfn.billing.reservation import Reservation
from dsfn.billing.usage import Usage
from dsfn.functions.values import dataclass

Measured = Usage | Interval
Spooled = Usage | Interval | Reservation


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a row is called, and its fields."""

    posting: str
    names: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]


_TYPES: Mapping[str, type[Spooled]] = {
    "usage": Usage,
    "interval": Interval,
    "reservation": Reservation,
}
_MEASURED = ("usage", "interval")


def _kind(posting: str, of: type[Spooled]) -> _Kind:
    names = tuple(each.name for each in fields(of))
    return _Kind(posting, names, attrgetter(*names))


_KINDS: Mapping[type[Spooled], _Kind] = {of: _kind(name, of) for name, of in _TYPES.items()}


def posting_document(row: Spooled) -> dict[str, Any]:
    """A row as a JSON-able document. It is made on the way of each call to its answer:
    `dataclasses.asdict` takes four times as long."""
    kind = _KINDS[type(row)]
    return {"posting": kind.posting, **dict(zip(kind.names, kind.values(row), strict=True))}


def read_posting(document: object) -> Measured:
    """Reads back what `posting_document` gave of what was measured. Raises `ValueError` for
    anything else."""
    if isinstance(document, Mapping) and document.get("posting") not in _MEASURED:
        raise ValueError('"posting" must be "usage" or "interval"')
    row = read_spooled(document)
    assert not isinstance(row, Reservation)
    return row


def read_spooled(document: object) -> Spooled:
    """Reads back what `posting_document` gave. Raises `ValueError` for anything else."""
    if not isinstance(document, Mapping):
        raise ValueError("a row must be an object")
    posting = document.get("posting")
    if not isinstance(posting, str) or posting not in _TYPES:
        raise ValueError(f'"posting" must be one of {", ".join(_TYPES)}')
    try:
        return _TYPES[posting](**{k: v for k, v in document.items() if k != "posting"})
    except TypeError as error:  # a field that is missing, or that nobody knows
        raise ValueError(str(error)) from None
