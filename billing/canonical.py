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
_ID, _KEY_ID, _RUN, _DEVICE, _KEY, _REVERSES = map(
    COLUMNS.index, ("id", "key_id", "run", "device", "idempotency_key", "reverses")
)
assert COLUMNS[INTEGERS - 1 : INTEGERS + 1] == ("amount", "kind")


class _Texts(dict[tuple[str, ...], bytes]):
    """Texts that follow each other, each after its length. Most come together again and again."""

    def __missing__(self, texts: tuple[str, ...]) -> bytes:
        if len(self) >= _MAX_CACHED:
            self.clear()
        encoded = map(str.encode, texts)
        self[texts] = joined = b"".join(pack_length(len(each)) + each for each in encoded)
        return joined


text_bytes = _Texts().__getitem__
# What may be each row's own is apart from what many have in common.
_before_id = itemgetter(slice(INTEGERS, _ID))
_after_id = itemgetter(
    slice(_KEY_ID, _RUN), slice(_RUN, _DEVICE), slice(_DEVICE, _KEY), slice(_KEY, _REVERSES),
    slice(_REVERSES, None),
)  # fmt: skip


def canonical(chain: int, seq: int, entry: Entry) -> bytes:
    """The bytes of the row with number `seq` of a chain."""
    id_bytes = entry.id.encode()
    parts = (
        pack_head(VERSION, chain, seq, *entry[:INTEGERS]),
        text_bytes(_before_id(entry)),
        pack_length(len(id_bytes)),
        id_bytes,
        *map(text_bytes, _after_id(entry)),
    )
    return b"".join(parts)


def row_hash(before: bytes, chain: int, seq: int, entry: Entry) -> bytes:
    """SHA-256 of the hash of the row before and of a row's canonical bytes."""
    return sha256(before + canonical(chain, seq, entry)).digest()
