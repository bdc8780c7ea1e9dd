"""The bytes of the journal that hashes are made of, the same on every machine and database.

    version    1 byte, 1
    integers   8 bytes each, big-endian two's complement: chain, seq, then those of `Entry`
    texts      each 4 bytes, big-endian: how many bytes of UTF-8 follow; then these

Lengths come first, so no two different rows have the same bytes. The format is described, with
an example, in docs/ledger-format.md.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from operator import itemgetter

from dsfn.billing.entry import COLUMNS, Entry

VERSION = 1
# What the first row of a chain has for the hash of the row before it.
FIRST_HASH = bytes(32)
INTEGERS = 6
# The version, then all integers of a row; the number of bytes of a text.
pack_head = struct.Struct(f">B{2 + INTEGERS}q").pack
pack_length = struct.Struct(">I").pack
_MAX_CACHED = 4096
assert COLUMNS[INTEGERS - 1 : INTEGERS + 1] == ("amount", "kind")


class _Prefixed(dict[str, bytes]):
    """Texts with their lengths before them. Most come again and again."""

    def __missing__(self, text: str) -> bytes:
        if len(self) >= _MAX_CACHED:
            self.clear()
        encoded = text.encode()
        self[text] = prefixed = pack_length(len(encoded)) + encoded
        return prefixed


prefixed = _Prefixed().__getitem__
_integers, _texts = itemgetter(slice(INTEGERS)), itemgetter(slice(INTEGERS, None))


def canonical(chain: int, seq: int, entry: Entry) -> bytes:
    """The bytes of the row with number `seq` of a chain."""
    head = pack_head(VERSION, chain, seq, *_integers(entry))
    return head + b"".join(map(prefixed, _texts(entry)))


def row_hash(before: bytes, chain: int, seq: int, entry: Entry) -> bytes:
    """SHA-256 of the hash of the row before and of a row's canonical bytes."""
    return sha256(before + canonical(chain, seq, entry)).digest()
