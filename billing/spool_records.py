"""The bytes of a spool: rows as lines of text, each with a checksum.

    CRC-32 in 8 hex digits, a space, JSON: [number of the record, [a document for each row]]

Rows of one record were added together. Lines keep damage in its place: one that cannot be read
takes no other with it. The format is described in docs/ledger-format.md.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence

from dsfn.billing.posting_document import Spooled, posting_document, read_spooled
from dsfn.functions.values import dataclass

_DIGITS = 8
# What reading raises where something else than a record is written: of values, types, sizes, depth.
_NOT_READ = (ValueError, TypeError, OverflowError, RecursionError)
_decoder = json.JSONDecoder()
_json = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Record:
    """Rows that were added together."""

    number: int
    rows: Sequence[Spooled]


@dataclass(frozen=True, slots=True)
class Damage:
    """A place in a file where records are missing or cannot be read: between those with the
    numbers `after` and `before` (None where there is none), with the lines that are there
    instead."""

    after: int | None
    before: int | None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file: its records, where it is damaged, how many bytes its lines have, 0 where
    none is a record, and what follows the last line: a writer was killed, or had no room, in the
    middle of it."""

    records: Sequence[Record]
    damage: Sequence[Damage]
    size: int
    tail: bytes

    @property
    def rows(self) -> list[Spooled]:
        """The rows of all records."""
        return [row for record in self.records for row in record.rows]

    @property
    def last_number(self) -> int:
        """The number of the last record, 0 where there is none."""
        return self.records[-1].number if self.records else 0


def line_of(record: Record) -> bytes:
    """A record as a file has it."""
    text = _json([record.number, [posting_document(row) for row in record.rows]]).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def parse(content: bytes) -> Content:
    """Reads what is in a file, whatever it is."""
    *lines, tail = content.split(b"\n")
    size = len(content) - len(tail)
    if _goes_on(tail):
        lines.append(tail)
        tail = b""
    records = list[Record]()
    damage = list[Damage]()
    wrong = list[str]()
    for line in lines:
        record = _record(line)
        if record is None:
            wrong.append(line.decode("latin-1"))
            continue
        after = records[-1].number if records else None
        if wrong or (after is not None and record.number > after + 1):
            damage.append(Damage(after, record.number, tuple(wrong)))
            wrong.clear()
        records.append(record)
    if wrong:
        damage.append(Damage(records[-1].number if records else None, None, tuple(wrong)))
    return Content(records, damage, size if records else 0, tail)


def missing_between(older: Content, newer: Content) -> Damage | None:
    """The records that neither of two files has, where nothing in these tells of them."""
    if not older.records or not newer.records:
        return None
    after, before = older.last_number, newer.records[0].number
    at_the_ends = {each.before for each in older.damage} | {each.after for each in newer.damage}
    if before <= after + 1 or None in at_the_ends:
        return None
    return Damage(after, before)


def _record(line: bytes) -> Record | None:
    """What a line says, None when it is not what was written."""
    try:
        if int(line[:_DIGITS], 16) != zlib.crc32(line[_DIGITS + 1 :]):
            return None
        number, documents = json.loads(line[_DIGITS + 1 :])
        return Record(int(number), [read_spooled(document) for document in documents])
    except _NOT_READ:
        return None


def _goes_on(tail: bytes) -> bool:
    """Whether it begins with a whole record, that does not end as a record does: its end of line
    was there once. Zeros are what a loss of power leaves of what was not synced."""
    text = tail.decode("latin-1")
    try:
        _, end = _decoder.raw_decode(text, _DIGITS + 1)
    except _NOT_READ:
        return False
    return bool(tail[end:].strip(b"\0")) and _record(tail[:end]) is not None
