"""What an arena holds, written down beside it for whoever has the memory next."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from hashlib import sha256

from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.pieces import Piece
from dsfn.snapshots.owner.verdict import Verdict

# Room for the chunks of about 64 GB of coded weights, twice.
INVENTORY_BYTES = 32 << 20
_HEAD = struct.Struct("<QQ32s")  # number, bytes of the content, their sha256


@dataclass(frozen=True, slots=True)
class Record:
    """A slab (tenant, digest) in its range, `range_bytes` from `offset` on, whose form begins
    `start` bytes into it. See `dsfn.snapshots.owner.arena.ArenaSlab` for the rest."""

    key: tuple[str, str]
    size_bytes: int
    data_offset: int
    offset: int
    range_bytes: int
    start: int
    pieces: tuple[Piece, ...] | None
    verdict: Verdict | None
    head: bytes


class Inventory:
    """Two places, of which the one written last counts: a writer that is killed half way leaves
    the other. What does not fit is not written down, none of it."""

    def __init__(self, view: memoryview) -> None:
        half = len(view) // 2
        self._places = view[:half], view[half:]
        self._number = 0

    def write(self, records: Sequence[bytes]) -> None:
        """Takes the place of what was written before; each is a `packed` record."""
        self._number += 1
        place = self._places[self._number % 2]
        content = pickle.dumps(records)
        if _HEAD.size + len(content) > len(place):
            content = pickle.dumps(())
        place[_HEAD.size : _HEAD.size + len(content)] = content
        place[: _HEAD.size] = _HEAD.pack(self._number, len(content), sha256(content).digest())

    def read(self) -> list[tuple[Record, bytes]]:
        """What was written last, by whoever had the memory, and each as it was `packed`; `write`
        goes on from there."""
        self._number, content = max(map(_read, self._places))
        # Only owners have this memory: it is as good as what they hold.
        found = pickle.loads(content) if content else ()
        return [(pickle.loads(record), record) for record in found]


def packed(record: Record) -> bytes:
    """A record as it is written, once for as long as it does not change."""
    return pickle.dumps(record)


def _read(place: memoryview) -> tuple[int, bytes]:
    """The number and content of a place; 0 if it has none that is whole."""
    number, size_bytes, digest = _HEAD.unpack(place[: _HEAD.size])
    content = bytes(place[_HEAD.size : _HEAD.size + size_bytes])
    return (number, content) if sha256(content).digest() == digest else (0, b"")
