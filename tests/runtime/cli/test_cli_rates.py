"""`dsfn rates check`, which needs no node."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import Dsfn

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "rates").glob("*.toml"))
RATE = "[default]\npico_per_second = 1\n"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_a_rate_card(dsfn: Dsfn, path: Path) -> None:
    card = dsfn("rates", "check", str(path), "--json").json()["card"]
    assert f'currency = "{card["currency"]}"' in path.read_text(encoding="utf-8")
    printed = dsfn("rates", "check", str(path)).out
    assert printed.startswith(f"{path} is a rate card.\n")
    assert f"{card['currency']} A SECOND" in printed.upper()


def test_the_examples_show_what_a_card_can_say(dsfn: Dsfn) -> None:
    cards = {p.stem: dsfn("rates", "check", str(p), "--json").json()["card"] for p in EXAMPLES}
    assert (cards["jpy"]["exponent"], cards["kwd"]["exponent"]) == (0, 3)
    assert cards["contract"]["effective_from"] == "2026-12-31T23:00:00Z"
    words = dsfn("rates", "check", str(EXAMPLES[0].with_name("contract.toml"))).out
    for line in ("Discount of acme: 10 %", "VAT: 19 %", "VAT of acme: 0 %", "month: 5.00 EUR"):
        assert line in words
    tiers = dsfn("rates", "check", str(EXAMPLES[0].with_name("tiers.toml"))).out
    assert "by 1000 µs, 3600 s free, 10000 requests free, 2 graduated tiers" in tiers


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("currency = ", "is not valid TOML"),
        ("[billing]\n", "billing is not a setting; there are billed, currency"),
        ("effective_from = 2027-01-01\n", "effective_from must be a moment with its offset"),
        ("effective_from = 2027-01-01T00:00:00\n", "effective_from must be a moment with"),
        ("[devices.cpu]\nbasis = 'busy'\n", "devices.cpu.pico_per_second must be a whole"),
        (f"# {'x' * (64 << 10)}", "is larger than 65536 bytes"),
    ],
)
def test_a_file_that_is_no_rate_card_is_refused_in_a_sentence(
    dsfn: Dsfn, text: str, sentence: str
) -> None:
    (dsfn.directory / "card.toml").write_text(text)
    run = dsfn("rates", "check", "card.toml")
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
    assert sentence in run.err


@pytest.mark.parametrize(
    "text",
    [
        f"tax = 10_001\n{RATE}",
        f"minimum_minor = 1_000_000_000_001\n{RATE}",
        f"tax_name = '{'x' * 41}'\n{RATE}",
        "[default]\npico_per_second = 1_000_000_000_000_000_001\n",
        f"{RATE}increment_us = 3_600_000_001\n",
        RATE + f"tiers = [{','.join(f'{{from_us={n}, pico_per_second=1}}' for n in range(1, 22))}]",
    ],
    ids=["tax", "minimum", "name", "price", "increment", "tiers"],
)
def test_a_rate_card_has_limits(dsfn: Dsfn, text: str) -> None:
    (dsfn.directory / "card.toml").write_text(text)
    assert dsfn("rates", "check", "card.toml").code == 2
