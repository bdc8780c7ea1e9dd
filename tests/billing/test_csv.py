from __future__ import annotations

import csv
from collections.abc import Callable

import pytest

from dsfn.billing.csv import to_csv
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
