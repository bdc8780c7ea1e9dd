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
from typing import Final, NamedTuple

from dsfn.billing.entry import COLUMNS, Entry

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
# Before which of the texts in common the others have their places.
_ID, _RUN, _KEY = (_COMMON.index(name) for name in ("key_id", "device", "reverses"))
_MAX_CACHED = 4096
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
# The texts of an entry that others have, too.
common_texts: Callable[[Entry], tuple[str, ...]] = itemgetter(*map(COLUMNS.index, _COMMON))
own_texts: Callable[[Entry], tuple[str, str, str, str]] = itemgetter(*map(COLUMNS.index, _OWN))


class Frame(NamedTuple):
    """The canonical bytes around a row's own texts: those of all that it has in common."""

    to_id: bytes
    to_run: bytes
    to_key: bytes
    to_end: bytes

    @classmethod
    def of(cls, common: tuple[str, ...]) -> Frame:
        """Of `common_texts`."""
        parts = (common[:_ID], common[_ID:_RUN], common[_RUN:_KEY], common[_KEY:])
        return cls(*map(text_bytes, parts))


def canonical(chain: int, seq: int, entry: Entry) -> bytes:
    """The bytes of the row with number `seq` of a chain."""
    head = pack_head(VERSION, chain, seq, *entry[:INTEGERS])
    return head + texts_in(Frame.of(common_texts(entry)), *own_texts(entry))


def texts_in(frame: Frame, id_: str, run: str, step: str, idempotency_key: str) -> bytes:
    """The bytes of all texts of a row."""
    to_id, to_run, to_key, to_end = frame
    id_bytes = id_.encode()
    return b"".join((
        to_id, pack_length(len(id_bytes)), id_bytes, to_run, text_bytes((run, step)), to_key,
        text_bytes((idempotency_key,)), to_end,
    ))  # fmt: skip


def row_hash(before: bytes, chain: int, seq: int, entry: Entry) -> bytes:
    """SHA-256 of the hash of the row before and of a row's canonical bytes."""
    return sha256(before + canonical(chain, seq, entry)).digest()
