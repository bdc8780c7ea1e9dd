"""What must hold of every ledger, whatever was posted to it: by the numbers of the invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_makers import (
    CLASSES,
    DAY_0,
    INSTANTS,
    Holding,
    added_up,
    device_times_by_hand,
    holdings,
    lists_of_calls,
    sums_by_hand,
)
from postgres_server import PostgresServer, empty_ledger

from dsfn.billing.charge import Charge
from dsfn.billing.interval import Interval
from dsfn.billing.ledger import DeviceTime
from dsfn.billing.periods import DAY_US
from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.posting import Posting
from dsfn.billing.reservation import Reservation
from dsfn.billing.selection import Selection
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict

LedgerOfTest = SqliteLedger | PostgresLedger
quick = settings(max_examples=40, deadline=None)
RANGES = st.tuples(INSTANTS, INSTANTS).map(sorted)


# Where the ledgers of a test lie: databases that are empty, or None for files.
_databases: list[str] | None = None


@pytest.fixture(scope="module", params=["sqlite", "postgres"], autouse=True)
def databases(request: pytest.FixtureRequest) -> Iterator[None]:
    """Has every test of this file be about ledgers in SQLite, and then in PostgreSQL."""
    global _databases
    if request.param == "sqlite":
        yield
        return
    server: PostgresServer = request.getfixturevalue("any_postgres")
    _databases = [server.make_database() for _ in range(2)]
    yield
    for url in _databases:
        server.drop_database(url)
    _databases = None


@contextmanager
def new_ledger() -> Iterator[LedgerOfTest]:
    with _opened() as ledger:
        yield ledger
        # Charges are posted here without the invoices that they are about.
        problems = [each for each in ledger.verify().problems if each.kind != "document"]
        assert not problems, problems


@contextmanager
def _opened() -> Iterator[LedgerOfTest]:
    if _databases is None:
        with TemporaryDirectory() as place, closing(SqliteLedger(Path(place) / "ledger.db")) as it:
            yield it
        return
    url = _databases.pop()
    try:
        with closing(PostgresLedger(url)) as ledger:
            yield ledger
    finally:
        empty_ledger(url)
        _databases.append(url)


def rows_of(ledger: LedgerOfTest) -> list[tuple[Any, ...]]:
    return list(ledger.books().rows(0, 1, 2**62))


@quick
@given(lists_of_calls(), st.data())
def test_2_a_repeat_changes_nothing_in_whatever_batches_it_comes(
    calls: list[Usage], data: st.DataObject
) -> None:
    with new_ledger() as ledger:
        ledger.post(calls)
        before = rows_of(ledger)
        again = data.draw(st.lists(st.sampled_from(calls), max_size=20)) if calls else []
        ledger.post(again)
        for call in again:
            ledger.post([call])
        assert rows_of(ledger) == before


@quick
@given(lists_of_calls(), st.sampled_from(["held_us", "started_at_us", "busy_us"]), st.data())
def test_2_the_same_id_with_another_body_is_refused_and_the_first_kept(
    calls: list[Usage], field: str, data: st.DataObject
) -> None:
    with new_ledger() as ledger:
        ledger.post(calls)
        before = rows_of(ledger)
        for call in calls:
            values = {name: getattr(call, name) for name in call.__slots__}
            other = Usage(**{**values, field: values[field] + 1})
            with pytest.raises(Conflict):
                ledger.post([other])
        assert rows_of(ledger) == before


@quick
@given(st.data())
def test_3_requests_restores_and_idle_time_are_what_was_held(data: st.DataObject) -> None:
    found: list[Holding] = [data.draw(holdings(f"l-{n}")) for n in range(3)]
    rows = [row for holding in found for row in holding.rows]
    shuffled = data.draw(st.permutations(rows))
    with new_ledger() as ledger:
        for row in shuffled:
            ledger.post([row])
        for holding in found:
            held = [each for each in holding.intervals if each.kind == "held"]
            account = f"lease/{held[0].lease}"
            assert ledger.balance(account, f"us:{held[0].device_class}") == 0
        times = ledger.device_times(0, 2**62)
        held_us: Counter[str] = Counter()
        for row in rows:
            if getattr(row, "kind", "") == "held":
                held_us[row.device_class] += row.duration_us * row.devices  # type: ignore[union-attr]
        assert {t.device_class: t.held_us for t in times if t.held_us} == {
            k: v for k, v in held_us.items() if v
        }
        start_us, end_us = data.draw(RANGES)
        by_hand = device_times_by_hand(rows, start_us, end_us)
        assert [t for t in ledger.device_times(start_us, end_us) if t.held_us] == by_hand


@quick
@given(lists_of_calls(), RANGES)
def test_3_the_time_of_calls_without_a_lease_is_on_the_device_s_account_too(
    calls: list[Usage], bounds: list[int]
) -> None:
    with new_ledger() as ledger:
        ledger.post(calls)
        start_us, end_us = bounds
        by_hand = device_times_by_hand(calls, start_us, end_us)
        assert [t for t in ledger.device_times(start_us, end_us) if t.held_us] == by_hand


@quick
@given(lists_of_calls(), st.data())
def test_4_balances_are_the_replay_of_the_journal_and_every_commodity_comes_to_zero(
    calls: list[Usage], data: st.DataObject
) -> None:
    postings: list[Posting] = [*calls, *data.draw(holdings("l")).rows]
    amounts = data.draw(st.lists(st.integers(0, 10**18), max_size=5))
    for number, nano in enumerate(amounts):
        postings.append(Reservation("reserve", f"r-{number}", "t", "k", "USD", nano, DAY_0))
        rounding = data.draw(st.integers(-(10**9), 10**9))
        postings.append(
            Charge("invoice", f"n-{number}", "t", "USD", nano, rounding, "2026-11", DAY_0)
        )
    with new_ledger() as ledger:
        ledger.post(postings)
        names = ("seq", "chain", *_entry_columns(), "hash")
        balances: Counter[tuple[str, str]] = Counter()
        for values in rows_of(ledger):
            row = dict(zip(names, values, strict=True))
            balances[row["debit"], row["commodity"]] += row["amount"]
            balances[row["credit"], row["commodity"]] -= row["amount"]
        for (account, commodity), balance in balances.items():
            assert ledger.balance(account, commodity) == balance
        for commodity in {commodity for _, commodity in balances}:
            assert sum(b for (_, c), b in balances.items() if c == commodity) == 0


@quick
@given(lists_of_calls(max_size=20), RANGES)
def test_9_sums_of_any_stretch_are_those_of_its_rows(calls: list[Usage], bounds: list[int]) -> None:
    with new_ledger() as ledger:
        ledger.post(calls)
        for start_us, end_us in (bounds, (DAY_0, DAY_0 + 2 * DAY_US)):
            for by in ("revision", "day"):
                selection = Selection(start_us, end_us, by)
                assert added_up(ledger.sums(selection)) == sums_by_hand(calls, selection)


@quick
@given(lists_of_calls(), st.data())
def test_10_the_same_rows_in_any_order_give_the_same_sums(
    calls: list[Usage], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(calls))
    with new_ledger() as one, new_ledger() as other:
        one.post(calls)
        for call in shuffled:
            other.post([call])
        bounds = (0, 2**62)
        everything = Selection(*bounds, by="day")
        assert one.sums(everything) == other.sums(everything)
        assert one.device_times(*bounds) == other.device_times(*bounds)
        assert set(one.crossing(everything)) == set(other.crossing(everything))


@quick
@given(st.lists(st.tuples(st.sampled_from(["reserve", "post", "void"]), st.integers(0, 3))))
def test_11_money_is_given_back_once_and_only_when_it_was_set_aside(
    steps: list[tuple[Any, int]],
) -> None:
    made: set[int] = set()
    settled: dict[int, str] = {}
    with new_ledger() as ledger:
        for kind, number in steps:
            posting = Reservation(kind, f"r-{number}", "t", "", "USD", 10 + number, DAY_0)
            repeats = number in made if kind == "reserve" else settled.get(number) == kind
            fits = repeats or kind == "reserve" or (number in made and number not in settled)
            if fits:
                ledger.post([posting])
                if kind == "reserve":
                    made.add(number)
                else:
                    settled[number] = kind
            else:
                with pytest.raises(Conflict):
                    ledger.post([posting])
        still_open = made - settled.keys()
        assert {each.id for each in ledger.reservations_open("t")} == {f"r-{n}" for n in still_open}
        assert ledger.balance("reserved/t", "nano:USD") == sum(10 + n for n in still_open)


@quick
@given(st.data())
def test_12_what_the_platform_lost_is_on_its_own_account(data: st.DataObject) -> None:
    holding = data.draw(holdings("l"))
    lost_us: Counter[str] = Counter()
    for row in holding.rows:
        if isinstance(row, Usage):
            if row.status == "platform":
                lost_us[row.device_class] += row.held_us * row.devices
        elif row.kind != "held" and row.reason == "fault" and not row.tenant:
            lost_us[row.device_class] += row.duration_us * row.devices
    with new_ledger() as ledger:
        ledger.post(holding.rows)
        for device_class in CLASSES:
            balance = ledger.balance("platform/faults", f"us:{device_class}")
            assert balance == lost_us[device_class]


def test_6_a_correction_is_a_reversal_and_what_replaces_it(
    make_usage: Callable[..., Usage],
) -> None:
    with new_ledger() as ledger:
        wrong, other = make_usage(lease="l"), make_usage(invocation_id="i-2", lease="l")
        right = make_usage(invocation_id="i-1b", lease="l", status="platform")
        ledger.post([wrong, other])
        ledger.correct("i-1", right)
        ledger.correct("i-1", right)
        assert {row.invocation_id for row in ledger.between(0, 2**62)} == {"i-1b", "i-2"}
        assert [(s.status, s.requests, s.held_us) for s in ledger.sums(Selection(0, 2**62))] == [
            ("platform", 1, 200),
            ("succeeded", 1, 200),
        ]
        assert ledger.balance("tenant/default", "us:cpu") == 200
        assert ledger.balance("platform/faults", "us:cpu") == 200
        assert ledger.balance("lease/l", "us:cpu") == -400
        assert ledger.verify().ok


def test_6_a_call_is_corrected_once_and_its_lease_stays_accounted_for(
    make_usage: Callable[..., Usage],
) -> None:
    with new_ledger() as ledger:
        ledger.post([make_usage(lease="l", idempotency_key="k")])
        right = make_usage(invocation_id="i-1b", lease="l", idempotency_key="k")
        ledger.correct("i-1", right)
        with pytest.raises(Conflict, match="another body"):
            ledger.correct("i-1", make_usage(invocation_id="i-1c", lease="l"))
        with pytest.raises(Conflict, match="the same lease for as long"):
            ledger.correct("i-1b", make_usage(invocation_id="i-1d", lease="l", held_us=201))
        with pytest.raises(Conflict, match="There is no call"):
            ledger.correct("never", right)
        assert [row.invocation_id for row in ledger.between(0, 2**62)] == ["i-1b"]


def test_3_a_restore_that_is_charged_less_is_the_platforms_and_was_as_long(
    make_usage: Callable[..., Usage],
) -> None:
    restore = Interval("restore", "l/1", "l", "gpu:0+gpu:1", 2, "cpu", "echo", "", "default", 0, 70)
    held = Interval("held", "l/2", "l", "gpu:0+gpu:1", 2, "cpu", "echo", "", "", 0, 270, "", True)
    first = make_usage(started_at_us=70, restore_us=70, devices=2, lease="l")
    with new_ledger() as ledger:
        ledger.post([restore, first, held])
        right = replace(first, invocation_id="i-1.2", restore_us=20)
        ledger.correct("i-1", right)
        ledger.correct("i-1", right)
        assert ledger.balance("tenant/default", "us:cpu") == 2 * (200 + 20)
        assert ledger.balance("platform/restore", "us:cpu") == 2 * 50
        assert ledger.balance("lease/l", "us:cpu") == 0
        ledger.correct(
            "i-1.2", replace(right, invocation_id="i-1.3", status="platform", restore_us=0)
        )
        assert ledger.balance("tenant/default", "us:cpu") == 0
        assert ledger.balance("platform/restore", "us:cpu") == 2 * 70
        (times,) = ledger.device_times(0, DAY_US)
        assert times == DeviceTime("cpu", 540, 400, 140, 0)
        with pytest.raises(Conflict, match="more of its restore than there was"):
            ledger.correct("i-1.3", replace(right, invocation_id="i-1.4"))
        assert ledger.verify().ok


def _entry_columns() -> tuple[str, ...]:
    from dsfn.billing.entry import COLUMNS

    return COLUMNS
