"""Rows of the journal as PostgreSQL's COPY takes them, made from their canonical bytes.

Source of the format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". A text
is its length in 4 bytes and its UTF-8, as in canonical bytes, so all texts of a row go there as
they are. Encoding them anew would take longer than all else that is done for a row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from dsfn.billing.canonical import INTEGERS
from dsfn.billing.chain import Linked
from dsfn.billing.entry import COLUMNS

COPY = f"COPY entries (chain, seq, {', '.join(COLUMNS)}, hash) FROM STDIN (FORMAT BINARY)"

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_FIELDS = 2 + len(COLUMNS) + 1
# How many fields, then each integer after its length: "integer" has 4 bytes, "bigint" 8.
_INTEGERS = struct.Struct(">h" + "ii" + "iq" + "ii" + "iq" * 5)
_HASH_LENGTH = struct.pack(">i", 32)


def copy_row(chain: int, row: Linked) -> bytes:
    """A row of a chain."""
    seq, entry, texts, digest = row
    devices, started_at_us, busy_us, held_us, restore_us, amount = entry[:INTEGERS]
    integers = _INTEGERS.pack(
        _FIELDS, 4, chain, 8, seq, 4, devices, 8, started_at_us, 8, busy_us, 8, held_us,
        8, restore_us, 8, amount,
    )  # fmt: skip
    return b"".join((integers, texts, _HASH_LENGTH, digest))


def copy_data(rows: Iterable[bytes]) -> bytes:
    """Everything that a COPY is sent."""
    return b"".join((_SIGNATURE, *rows, _TRAILER))
