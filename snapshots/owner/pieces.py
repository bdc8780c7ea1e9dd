"""The pieces that a slab's data is copied in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dsfn.snapshots.owner.device import Granule

# A bus reaches its rate with pieces of this size (an H100's: 47 GB/s of 55 with one of 16 MiB
# alone, all of it when others wait behind it); smaller ones cost more calls than they gain.
_LEAST_BYTES = 4 << 20
_PIECES = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """`size_bytes` of a slab's data from `offset` on. They go to the granule number `granule`
    of a list that holds the slab, and begin at `start` in it."""

    offset: int
    size_bytes: int
    granule: int
    start: int

    def address(self, granules: Sequence[Granule]) -> int:
        """Where it lies in granules of the sizes that it was cut for."""
        return granules[self.granule].address + self.start


def cut(size_bytes: int, granules: Sequence[Granule], most_bytes: int) -> Iterator[Piece]:
    """The pieces of a slab, in order, none across two granules.

    A small slab's are small, so that several links have something to carry, and what is there
    can be used while the rest arrives; none has more than `most_bytes`.
    """
    piece_bytes = min(most_bytes, max(_LEAST_BYTES, -(-size_bytes // _PIECES)))
    offset = 0
    for index, granule in enumerate(granules):
        used_bytes = min(granule.size_bytes, size_bytes - offset)
        for start in range(0, used_bytes, piece_bytes):
            yield Piece(offset + start, min(piece_bytes, used_bytes - start), index, start)
        offset += used_bytes
