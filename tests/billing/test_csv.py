from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from dsfn.billing.csv import to_csv
from dsfn.billing.exports.focus import Accounts, to_focus
from dsfn.billing.rates import Rate, RateBook, RateCard
from dsfn.billing.selection import BYS
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.statement import statement
from dsfn.billing.usage import Usage

HEADER = (
    "month,kind,tenant,function,revision,workflow,run,step,day,key,device_class,card,requests,"
    "quantity_us,busy_us,held_us,restore_us,amount_nano,amount_minor,note,service_month,amount,"
    "currency\r\n"
)


def test_a_statement_is_one_row_for_each_line(
    ledger: SqliteLedger, make_usage: Callable[..., Usage]
) -> None:
    ledger.post([make_usage(tenant='say "hi", all', held_us=1_000_000)])
    month = "2026-09"
    card = RateCard(devices={"cpu": Rate(10**12)})
    text = to_csv(statement(ledger, RateBook.of(card), month, "day"))
    assert text == HEADER + (
        '2026-09,usage,"say ""hi"", all",echo,,,,,2026-09-21,,cpu,1,1,1000000,100,1000000,0,'
        "1000000000,100,,,1.00,USD\r\n"
    )
    assert next(csv.DictReader(text.splitlines()))["tenant"] == 'say "hi", all'


@pytest.mark.parametrize("by", BYS)
def test_the_columns_are_the_same_for_every_kind_of_bill(ledger: SqliteLedger, by: str) -> None:
    assert to_csv(statement(ledger, RateBook.of(RateCard()), "2026-09", by)) == HEADER


@pytest.mark.parametrize("tenant", ["=1+1", "+1", "-a", "@sum", "\tx", "\rx", "-1/2"])
def test_a_name_that_a_spreadsheet_would_compute_is_a_text(
    ledger: SqliteLedger, make_usage: Callable[..., Usage], tenant: str
) -> None:
    ledger.post([make_usage(tenant=tenant, function=tenant)])
    found = statement(ledger, RateBook.of(RateCard(discounts={tenant: 5000})), "2026-09")
    (line, *_) = csv.DictReader(io.StringIO(to_csv(found), newline=""))
    (charge, *_) = csv.DictReader(
        io.StringIO(to_focus(found, Accounts(tenant, {}, {})), newline="")
    )
    texts = (line["tenant"], line["function"], charge["BillingAccountId"], charge["x_Function"])
    assert {*texts, charge["ProviderName"]} == {f"'{tenant}"}


def test_an_amount_below_nothing_is_a_number(
    ledger: SqliteLedger, make_usage: Callable[..., Usage]
) -> None:
    ledger.post([make_usage(held_us=10_000_000)])
    card = RateCard(devices={"cpu": Rate(10**12)}, discounts={"default": 1000})
    lines = csv.DictReader(to_csv(statement(ledger, RateBook.of(card), "2026-09")).splitlines())
    assert [(line["amount"], line["amount_minor"]) for line in lines] == [
        ("10.00", "1000"),
        ("-1.00", "-100"),
    ]
