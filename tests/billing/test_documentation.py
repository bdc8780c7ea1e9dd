"""The examples of docs/billing.md are true."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from dsfn.billing.money import minor_text
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.rates import RateBook, RateCard, configured_card, read_card
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.statement import statement
from dsfn.billing.usage import Usage

PAGE = Path(__file__).parents[2] / "docs" / "billing.md"


def example(language: str) -> str:
    found = re.search(f"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_statement_follows_from_the_rates_as_documented(
    ledger: SqliteLedger, make_usage: Callable[..., Usage]
) -> None:
    held_us = 30 * 60 * 1_000_000
    ledger.post(
        [
            make_usage(invocation_id="a", busy_us=held_us, held_us=held_us, restore_us=7_000),
            make_usage(invocation_id="b", busy_us=1_200_000_000, held_us=held_us),
            make_usage(invocation_id="c", held_us=900, status="platform"),
        ]
    )
    card = configured_card(tomllib.loads(example("toml"))["billing"])
    document = statement(ledger, RateBook.of(card), "2026-09").to_document()
    assert json.dumps(document, indent=2) == example("json").strip()


def test_the_example_rates_are_those_without_a_configuration() -> None:
    documented = configured_card(tomllib.loads(example("toml"))["billing"])
    standard = RateCard()
    assert (documented.currency, documented.exponent) == (standard.currency, standard.exponent)
    assert documented.default == standard.default
    cpu = documented.rate("cpu")
    assert (cpu.pico_per_second, cpu.basis) == (
        standard.rate("cpu").pico_per_second,
        standard.rate("cpu").basis,
    )


def test_the_example_with_two_cards_is_calculated_as_documented(
    ledger: SqliteLedger, make_usage: Callable[..., Usage]
) -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## An example")[2]
    documents = map(tomllib.loads, re.findall("```toml\n(.*?)```", text, re.DOTALL))
    month, hour_us = Month.parse("2026-11"), 3_600_000_000
    first_us, second_us = month.start_us + 2 * DAY_US, month.start_us + 14 * DAY_US - hour_us // 2
    call = {"tenant": "acme", "device_class": "NVIDIA L4"}
    long_us = 11 * hour_us + 400_000
    ledger.post(
        [
            make_usage(invocation_id="a", started_at_us=first_us, held_us=long_us, **call),
            make_usage(invocation_id="b", started_at_us=second_us, held_us=hour_us, **call),
        ]
    )
    bill = statement(ledger, RateBook.of(*map(read_card, documents)), month.text)
    rows: list[tuple[object, ...]] = [
        (x.kind, x.card, x.requests, x.quantity_us // 10**6, minor_text(x.amount_minor, 2), x.note)
        for x in bill.lines
    ]
    rows.append(("total", "", "", "", minor_text(bill.total_minor, 2), ""))
    table = re.findall(r"^\| (\w.*) \|$", text, re.MULTILINE)[1:]
    assert [tuple(map(str, row)) for row in rows] == [
        tuple(cell.strip() for cell in line.split("|")) for line in table
    ]
