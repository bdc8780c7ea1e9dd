"""The examples of docs/billing.md are true."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from dsfn.billing.ledger import SqliteLedger
from dsfn.billing.rates import RateCard
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
    card = RateCard.from_document(tomllib.loads(example("toml"))["billing"])
    document = statement(ledger, card, "2026-09").to_document()
    assert json.dumps(document, indent=2) == example("json").strip()


def test_the_example_rates_are_those_without_a_configuration() -> None:
    documented = RateCard.from_document(tomllib.loads(example("toml"))["billing"])
    standard = RateCard()
    assert (documented.currency, documented.exponent) == (standard.currency, standard.exponent)
    assert documented.default == standard.default
    cpu = documented.rate("cpu")
    assert (cpu.pico_per_second, cpu.basis) == (
        standard.rate("cpu").pico_per_second,
        standard.rate("cpu").basis,
    )
