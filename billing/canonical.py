"""The bytes of the journal that hashes are made of, the same on every machine and database.

    version    1 byte, 1
    integers   8 bytes each, big-endian two's complement: chain, seq, then those of `Entry`
    texts      each 4 bytes, big-endian: how many bytes of UTF-8 follow; then these

Lengths come first, so no two different rows have the same bytes. The format is described, with
an example, in docs/ledger-format.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import sha256
from operator import itemgetter
from typing import Final

from dsfn.billing.entry import COLUMNS, Entry, getter

VERSION = 1
# What the first row of a chain has for the hash of the row before it.
FIRST_HASH = bytes(32)
INTEGERS: Final = 6
# The version, then all integers of a row; the number of bytes of a text.
pack_head = struct.Struct(f">B{2 + INTEGERS}q").pack
pack_length = struct.Struct(">I").pack
# The texts that a row has for itself: all others it has in common with many.
_OWN = ("id", "run", "step", "idempotency_key")
_COMMON = tuple(name for name in COLUMNS[INTEGERS:] if name not in _OWN)
_ID, _RUN, _STEP, _KEY = map(COLUMNS.index, _OWN)
_MAX_CACHED = 4096
assert COLUMNS[INTEGERS - 1 : INTEGERS + 1] == ("amount", "kind")


def _encode(texts: tuple[str, ...]) -> bytes:
    encoded = map(str.encode, texts)
    return b"".join(pack_length(len(each)) + each for each in encoded)


class _Texts(dict[tuple[str, ...], bytes]):
    """Texts that follow each other, each after its length. Most come together again and again."""

    def __missing__(self, texts: tuple[str, ...]) -> bytes:
        if len(self) >= _MAX_CACHED:
            self.clear()
        self[texts] = joined = _encode(texts)
        return joined


text_bytes = _Texts().__getitem__
# The texts of an entry that others have, too.
common_texts: Callable[[Entry], tuple[str, ...]] = getter(*_COMMON)
_all_texts: Callable[[Entry], tuple[str, ...]] = itemgetter(slice(INTEGERS, None))
_texts_between: Callable[[Entry], tuple[tuple[str, ...], ...]] = itemgetter(
    slice(INTEGERS, _ID), slice(_ID + 1, _RUN), slice(_STEP + 1, _KEY), slice(_KEY + 1, None)
)
own_texts: Callable[[Entry], tuple[str, str, str, str]] = getter(*_OWN)


def texts_around(entry: Entry) -> tuple[bytes, bytes, bytes, bytes]:
    """The bytes around the texts that an entry has for itself: before the id, before `run`, before
    `idempotency_key`, and to the end."""
    to_id, to_run, to_key, to_end = map(text_bytes, _texts_between(entry))
    return to_id, to_run, to_key, to_end


def canonical(chain: int, seq: int, entry: Entry) -> bytes:
    """The bytes of the row with number `seq` of a chain."""
    return pack_head(VERSION, chain, seq, *entry[:INTEGERS]) + _encode(_all_texts(entry))


def row_hash(before: bytes, chain: int, seq: int, entry: Entry) -> bytes:
    """SHA-256 of the hash of the row before and of a row's canonical bytes."""
    return sha256(before + canonical(chain, seq, entry)).digest()
