"""What came of trying to code a slab: known without what codes it."""

from __future__ import annotations

from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.pieces import Piece


@dataclass(frozen=True, slots=True)
class Verdict:
    """`pieces` are those of the coded form, if it is to take the plain one's place; if not,
    `reason` says why. `coded_bytes` is what it has, and the times are the best of some copies
    of either form, 0 where it did not come to that."""

    pieces: tuple[Piece, ...] | None
    coded_bytes: int
    plain_us: int
    coded_us: int
    reason: str
