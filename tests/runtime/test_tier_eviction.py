"""Which snapshots leave the disk, and which must not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dsfn.runtime.tiers.eviction import GRACE_S, OnDisk, Situation, over_the_limit, reload_s, unused
from dsfn.runtime.tiers.records import HALF_LIFE_S, Record

NOW_US = 1_000_000_000_000_000
HOUR_US = 3_600_000_000
MB = 1_000_000


def on_disk(name: str, *, used_ago_us: int | None = None, **values: Any) -> OnDisk:
    """A snapshot in the store, too, published long ago and used once, if at all."""
    record = Record(name, stored_at_us=1)
    if used_ago_us is not None:
        record = record.used(NOW_US - used_ago_us)
    return OnDisk(replace(record, **values), MB, NOW_US - 100 * HOUR_US)


def situation(
    max_bytes: int = 0, referred: frozenset[str] = frozenset(), in_use: frozenset[str] = frozenset()
) -> Situation:
    return Situation(NOW_US, max_bytes, referred, in_use)


def leaving(found: list[OnDisk], now: Situation, more_bytes: int = 0) -> list[str]:
    return [each.digest for each in over_the_limit(found, now, more_bytes)]


def test_what_was_used_least_of_late_leaves_first() -> None:
    found = [
        on_disk("now", used_ago_us=0),
        on_disk("never"),
        on_disk("yesterday", used_ago_us=24 * HOUR_US),
    ]
    referred = frozenset(("now", "never", "yesterday"))
    assert leaving(found, situation(2 * MB, referred)) == ["never"]
    assert leaving(found, situation(MB, referred)) == ["never", "yesterday"]
    assert leaving(found, situation(MB, referred), more_bytes=MB) == ["never", "yesterday", "now"]


def test_nothing_leaves_under_the_limit_or_without_one() -> None:
    found = [on_disk("a"), on_disk("b")]
    assert leaving(found, situation(2 * MB)) == []
    assert leaving(found, situation(0), more_bytes=100 * MB) == []


def test_what_comes_back_slowly_for_its_size_stays_longer() -> None:
    referred = frozenset(("slow", "fast"))
    found = [
        on_disk("slow", used_ago_us=HOUR_US, reload_us=9_000_000),
        on_disk("fast", used_ago_us=HOUR_US, reload_us=1_000_000),
    ]
    assert leaving(found, situation(MB, referred)) == ["fast"]


def test_what_was_used_often_stays_longer_than_what_was_used_a_moment_later() -> None:
    often = Record("often", stored_at_us=1)
    for minutes in range(10):
        often = often.used(NOW_US - HOUR_US // 2 + minutes)
    found = [OnDisk(often, MB, 0), on_disk("once", used_ago_us=0)]
    assert leaving(found, situation(MB, frozenset(("often", "once")))) == ["once"]


def test_uses_fade() -> None:
    record = Record("a").used(0)
    assert record.heat_at(0) == 1
    assert record.heat_at(int(HALF_LIFE_S * 1e6)) == 0.5
    assert record.used(int(HALF_LIFE_S * 1e6)).heat == 1.5


def test_pinned_ones_and_those_in_use_never_leave() -> None:
    found = [on_disk("pinned", pinned=True), on_disk("busy"), on_disk("free")]
    now = situation(1, in_use=frozenset(("busy",)))
    assert leaving(found, now) == ["free"]
    assert [each.digest for each in unused(found, now)] == ["free"]


def test_what_is_in_no_store_leaves_only_when_nothing_refers_to_it() -> None:
    found = [on_disk("needed", stored_at_us=None), on_disk("old", stored_at_us=None)]
    now = situation(1, referred=frozenset(("needed",)))
    assert leaving(found, now) == ["old"]
    assert [each.digest for each in unused(found, now)] == ["old"]


def test_what_nothing_refers_to_yet_is_given_time() -> None:
    fresh = OnDisk(Record("fresh"), MB, NOW_US - int(GRACE_S * 1e6) + 1)
    assert list(unused([fresh], situation())) == []
    assert leaving([fresh], situation(1)) == []
    used = on_disk("used", used_ago_us=1)
    assert list(unused([used], situation())) == []
    assert leaving([used], situation(1)) == ["used"], "it is in the store"


def test_what_nothing_refers_to_leaves_before_what_is_needed() -> None:
    found = [on_disk("needed"), on_disk("unneeded", used_ago_us=0)]
    assert leaving(found, situation(MB, frozenset(("needed",)))) == ["unneeded"]


def test_a_reload_takes_as_long_as_the_last_one_or_a_guess() -> None:
    assert reload_s(Record("a", reload_us=2_500_000), MB) == 2.5
    assert reload_s(Record("a"), 100 * MB) > reload_s(Record("a"), MB) > 0
