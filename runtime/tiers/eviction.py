"""Which snapshots leave the disk, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Literal

from dsfn.functions.values import dataclass
from dsfn.runtime.heat import worth
from dsfn.runtime.tiers.records import Record

# Until it is older than this, what no revision refers to may be about to be referred to.
GRACE_S = 3600.0
# How fast a snapshot comes back that never has: a modest link, and what it takes to begin.
_RELOAD_BYTES_PER_S = 100_000_000
_RELOAD_BEGIN_S = 0.2

Reason = Literal["unused", "over the limit"]


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A snapshot on the disk. `published_at_us`: since when."""

    record: Record
    bytes: int
    published_at_us: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """A snapshot that leaves, or would leave."""

    digest: str
    bytes: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides: `referred` digests are some revision's, those `in_use` have replicas or are
    being read. `max_bytes` is 0 where there is no limit."""

    now_us: int
    max_bytes: int
    referred: Collection[str]
    in_use: Collection[str]


def unused(found: Iterable[OnDisk], situation: Situation) -> Iterator[Pruned]:
    """Those that nothing refers to any more, once they are old enough."""
    for each in found:
        if _may_leave(each, situation) and _is_unused(each, situation):
            yield Pruned(each.record.digest, each.bytes, "unused")


def over_the_limit(
    found: Collection[OnDisk], situation: Situation, more_bytes: int
) -> Iterator[Pruned]:
    """Those that must leave for `more_bytes` to fit under the limit, the least worth first.

    What exists nowhere else stays, as long as a revision refers to it; so it can be that
    what leaves is not enough.
    """
    excess = sum(each.bytes for each in found) + more_bytes - situation.max_bytes
    if not situation.max_bytes or excess <= 0:
        return
    for each in sorted(found, key=lambda each: _worth(each, situation)):
        again = each.record.stored_at_us is not None
        if _may_leave(each, situation) and (again or _is_unused(each, situation)):
            yield Pruned(each.record.digest, each.bytes, "over the limit")
            excess -= each.bytes
            if excess <= 0:
                return


def reload_s(record: Record, size_bytes: int) -> float:
    """How long a snapshot takes to come back from the store: as last time, or an estimate."""
    if record.reload_us is not None:
        return record.reload_us / 1e6
    return _RELOAD_BEGIN_S + size_bytes / _RELOAD_BYTES_PER_S


def _may_leave(each: OnDisk, situation: Situation) -> bool:
    return not each.record.pinned and each.record.digest not in situation.in_use


def _is_unused(each: OnDisk, situation: Situation) -> bool:
    last_us = max(each.published_at_us, each.record.used_at_us or 0)
    old = situation.now_us - last_us >= GRACE_S * 1e6
    return old and each.record.digest not in situation.referred


def _worth(each: OnDisk, situation: Situation) -> tuple[bool, float, int]:
    """Seconds of reloading that a byte here saves; among equals the longest unused goes first."""
    record = each.record
    heat = record.heat_at(situation.now_us)
    value = worth(heat, each.bytes, reload_s(record, each.bytes))
    return record.digest in situation.referred, value, record.used_at_us or 0
