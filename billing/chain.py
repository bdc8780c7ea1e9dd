"""A chain of the journal: rows with numbers from 1 on, each bound to the one before by its hash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256

from dsfn.billing.canonical import (
    FIRST_HASH,
    INTEGERS,
    VERSION,
    common_texts,
    own_texts,
    pack_head,
    pack_length,
    text_bytes,
    texts_around,
)
from dsfn.billing.entry import Entry
from dsfn.billing.periods import DAY_US
from dsfn.billing.rollups import Totals
from dsfn.functions.values import dataclass

# A row of a chain: its number, the entry, the canonical bytes of the texts of this, and the hash.
Linked = tuple[int, Entry, bytes, bytes]
# What rows that are alike have in common: their devices, their day and most of their texts.
_Key = tuple[int, int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of a chain: its number, 0 while there is none, and its hash."""

    seq: int = 0
    hash: bytes = FIRST_HASH


class Links:
    """Entries as they follow the last row of a chain, and what they add up to.

    This is done for every row, so little may be done for each: what many have in common is
    encoded, and added to the totals, once for all of them.
    """

    def __init__(self, chain: int, head: Head) -> None:
        self._chain = chain
        self._groups: dict[_Key, _Alike] = {}
        self._others: list[Entry] = []
        self.head = head

    def follow(self, entries: Iterable[Entry]) -> Iterator[Linked]:
        """The entries as rows. When all of them were taken, `head` is the last one."""
        chain, groups, seq, digest = self._chain, self._groups, self.head.seq, self.head.hash
        for entry in entries:
            seq += 1
            devices, started_at_us, busy_us, held_us, restore_us, amount = entry[:INTEGERS]
            id_, run, step, key = own_texts(entry)
            common = (devices, started_at_us // DAY_US, common_texts(entry))
            group = groups.get(common)
            if group is None:
                group = groups[common] = _Alike(entry)
            if group.is_time:
                group.rows += 1
                group.busy_us += busy_us
                group.held_us += held_us
                group.restore_us += restore_us
                group.amount += amount
            else:
                self._others.append(entry)
            id_bytes = id_.encode()
            texts = b"".join((
                group.to_id, pack_length(len(id_bytes)), id_bytes, group.to_run,
                text_bytes((run, step)), group.to_key, text_bytes((key,)), group.to_end,
            ))  # fmt: skip
            head = pack_head(
                VERSION, chain, seq, devices, started_at_us, busy_us, held_us, restore_us, amount
            )
            digest = sha256(digest + head + texts).digest()
            yield seq, entry, texts, digest
        self.head = Head(seq, digest)

    def totals(self) -> Totals:
        """What the rows that were taken add up to."""
        totals = Totals()
        totals.add(self._others)
        for group in self._groups.values():
            if group.rows:
                totals.add_alike(group.as_one(), group.rows)
        return totals


class _Alike:
    """Rows that are alike: the canonical bytes around their own texts, and what they come to that
    is about time."""

    __slots__ = (
        "amount", "busy_us", "first", "held_us", "is_time", "restore_us", "rows", "to_end", "to_id",
        "to_key", "to_run",
    )  # fmt: skip

    def __init__(self, first: Entry) -> None:
        self.first = first
        self.to_id, self.to_run, self.to_key, self.to_end = texts_around(first)
        self.is_time = first.device_class != ""
        self.rows = self.busy_us = self.held_us = self.restore_us = self.amount = 0

    def as_one(self) -> Entry:
        """A row that has what they come to."""
        devices, started_at_us, *_ = self.first
        times = (self.busy_us, self.held_us, self.restore_us)
        texts = self.first[INTEGERS:]
        return Entry._make((devices, started_at_us, *times, self.amount, *texts))
