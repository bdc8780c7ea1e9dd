"""A chain of the journal: rows with numbers from 1 on, each bound to the one before by its hash."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dsfn.billing.canonical import FIRST_HASH, row_hash
from dsfn.billing.entry import Entry
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of a chain: its number, 0 while there is none, and its hash."""

    seq: int = 0
    hash: bytes = FIRST_HASH


def link(chain: int, head: Head, entries: Iterable[Entry]) -> tuple[list[tuple[Any, ...]], Head]:
    """Entries as rows that follow `head`, each (seq, *entry, hash), and the head after them."""
    seq, digest, rows = head.seq, head.hash, []
    for entry in entries:
        seq += 1
        digest = row_hash(digest, chain, seq, entry)
        rows.append((seq, *entry, digest))
    return rows, Head(seq, digest)
