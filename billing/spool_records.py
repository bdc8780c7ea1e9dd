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
_json = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Record:
    """Rows that were added together."""

    number: int
    rows: Sequence[Spooled]


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file: its records, the lines that are none, and what follows the last line: a
    writer was killed, or had no room, in the middle of it."""

    records: Sequence[Record]
    damaged: Sequence[bytes]
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
    records = [(line, _record(line)) for line in lines]
    return Content(
        [record for _, record in records if record is not None],
        [line for line, record in records if record is None],
        tail,
    )


def _record(line: bytes) -> Record | None:
    """What a line says, None when it is not what was written."""
    try:
        if int(line[:_DIGITS], 16) != zlib.crc32(line[_DIGITS + 1 :]):
            return None
        number, documents = json.loads(line[_DIGITS + 1 :])
        return Record(number, [read_spooled(document) for document in documents])
    except (ValueError, TypeError):
        return None
