"""What is posted, as JSON: for whoever measures on another machine than the ledger's.

A document has the fields of `Usage` or `Interval`, and what it is as "posting".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dsfn.billing.interval import Interval
from dsfn.billing.usage import Usage

Measured = Usage | Interval
_KINDS: Mapping[str, type[Usage] | type[Interval]] = {"usage": Usage, "interval": Interval}


def posting_document(row: Measured) -> dict[str, Any]:
    """A row as a JSON-able document."""
    kind = "usage" if isinstance(row, Usage) else "interval"
    return {"posting": kind, **asdict(row)}


def read_posting(document: object) -> Measured:
    """Reads back what `posting_document` gave. Raises `ValueError` for anything else."""
    if not isinstance(document, Mapping):
        raise ValueError("a row must be an object")
    kind = document.get("posting")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError('"posting" must be "usage" or "interval"')
    try:
        return _KINDS[kind](**{k: v for k, v in document.items() if k != "posting"})
    except TypeError as error:  # a field that is missing, or that nobody knows
        raise ValueError(str(error)) from None
