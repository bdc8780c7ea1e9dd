"""Months are closed alike in every database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from month_books import at_us, close_month

from dsfn.billing.interval import Interval
from dsfn.billing.ledger import DeviceTime, Ledger
from dsfn.billing.months import Months, invoice_in
from dsfn.billing.parties import Parties
from dsfn.billing.periods import Month
from dsfn.billing.rates import Rate, RateCard, RateStore
from dsfn.billing.selection import BYS
from dsfn.billing.signing import SigningKey
from dsfn.billing.statement import statement
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict

NOVEMBER = Month.parse("2026-11")
CARD = RateCard(devices={"cpu": Rate(10**12, increment_us=1_000_000)}, tax=1_900)


@pytest.fixture
def months(ledger: Ledger, tmp_path: Path) -> Months:
    store, key = RateStore(ledger.cards(), CARD, 0), SigningKey.open(tmp_path / "key.pem")
    return Months(ledger, lambda: store.book, Parties(), key, lambda: None)


@pytest.fixture
def call(make_usage: Callable[..., Usage]) -> Callable[..., Usage]:
    def make(name: str, **changes: Any) -> Usage:
        fields: dict[str, Any] = {
            "started_at_us": at_us("2026-11-10T12:00:00"),
            "held_us": 5_000_000,
            "workflow": "nightly",
            "run": f"run-{name}",
            "step": "first",
            "key_id": "key-1",
        }
        return make_usage(invocation_id=name, **{**fields, **changes})

    return make


def test_a_month_is_closed_corrected_and_credited(
    months: Months, call: Callable[..., Usage]
) -> None:
    ledger = months.ledger
    over = call("over", started_at_us=NOVEMBER.end_us - 2_000_000, devices=2)
    ledger.post([call("a"), call("b", tenant="bob"), over])
    totals = {statement(ledger, months.book(), "2026-11", by).total_minor for by in BYS}
    issued = close_month(months, "2026-11")
    assert totals == {sum(each.total_minor for each in issued)}
    assert [(each.number, each.tenant, each.total_minor) for each in issued] == [
        ("2026-11-0001", "bob", 595),
        ("2026-11-0002", "default", 595 + 476),
    ]
    assert close_month(months, "2026-11") == issued
    assert ledger.closed_until_us == NOVEMBER.end_us
    ledger.post([call("late")])
    ledger.correct("a", replace(call("a"), invocation_id="a.2", status="platform"))
    (after,) = close_month(months, "2026-12")
    assert [(x.kind, x.quantity_us) for x in invoice_in(after).lines] == [
        ("usage", 6_000_000),
        ("tax", 0),
    ]
    note = months.credit(issued[0].number, 595, "slow", "key", at_us("2026-12-05"))
    assert months.credit(issued[0].number, 595, "slow", "key", at_us("2026-12-06")) == note
    with pytest.raises(Conflict):
        months.credit(issued[0].number, 1, "slow", "", at_us("2026-12-06"))
    assert ledger.balance("receivable/bob", "nano:USD") == 0
    for each in (*issued, after, note):
        assert months.verify(each.number).problems == ()
        assert months.issued(each.number) == each
    assert ledger.documents.keep_print(note.number, "pdf", b"\0first") == b"\0first"
    assert ledger.documents.keep_print(note.number, "pdf", b"second") == b"\0first"
    assert ledger.verify().problems == ()


def test_a_month_with_nothing_to_bill_is_closed(months: Months, call: Callable[..., Usage]) -> None:
    months.ledger.post([call("a", status="platform")])
    assert close_month(months, "2026-11") == []
    assert months.report("2026-11", "function", "", 0).status == "closed"


def test_time_of_devices_that_comes_late_is_in_the_month_in_which_it_is_billed(
    months: Months, call: Callable[..., Usage]
) -> None:
    def devices(month: str) -> tuple[DeviceTime, ...]:
        return months.report(month, "function", "", NOVEMBER.end_us).devices

    ledger, in_november = months.ledger, at_us("2026-11-20T12:00:00")
    over = call("over", started_at_us=NOVEMBER.end_us - 2_000_000)
    ledger.post([call("a", lease="l"), over])
    close_month(months, "2026-11")
    before = DeviceTime("cpu", 7_000_000, 7_000_000, 0, 0)
    assert devices("2026-11") == (before,)
    late_over = call("late-over", started_at_us=NOVEMBER.end_us - 1_000_000)
    idle = Interval("idle", "l/1", "l", "cpu", 1, "cpu", "f", "r", "", in_november, 9)
    restore = Interval("restore", "l/2", "l", "cpu", 2, "cpu", "f", "r", "", in_november, 4)
    held = Interval("held", "l/3", "l", "cpu", 1, "cpu", "f", "r", "", in_november, 99)
    ledger.post([call("late", lease="l"), late_over, idle, restore, held])
    ledger.post([call("own", started_at_us=at_us("2026-12-03"))])
    assert devices("2026-11") == (before,)
    # Its own call, one that came late, one and the rest of another over the month's end.
    requests_us = 5_000_000 + 5_000_000 + 5_000_000 + 3_000_000
    (december,) = devices("2026-12")
    assert december == DeviceTime("cpu", requests_us + 8 + 9, requests_us, 8, 9)
    close_month(months, "2026-12")
    assert devices("2026-12") == (december,)
    (all_of_it,) = ledger.device_times(0, Month.parse("2027-01").start_us)
    assert all_of_it == before.plus(december)
