from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dsfn.billing.parties import Parties, Party, read_parties
from dsfn.functions.errors import UsageError

PAGE = Path(__file__).parents[2] / "docs" / "billing.md"


def test_the_documented_settings_are_read_and_others_have_their_defaults() -> None:
    text = re.search(r"```toml\n(\[invoices\]\n.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert text is not None
    parties = read_parties(tomllib.loads(text[1])["invoices"])
    assert (parties.issuer.name, parties.issuer.tax_id) == ("Models, Inc.", "DE123456789")
    assert parties.customer("acme").address == ("2 Side Street", "Shelbyville")
    assert parties.customer("bob") == Party("bob")
    assert (parties.due_days, parties.terms[:4]) == (14, "IBAN")
    assert read_parties({}) == Parties()
    assert Party.from_document(parties.issuer.to_document()) == parties.issuer


@pytest.mark.parametrize(
    ("table", "setting"),
    [
        ({"issuers": {}}, "invoices.issuers is not a setting"),
        ({"issuer": "me"}, "invoices.issuer must be a table"),
        ({"issuer": {}}, "invoices.issuer.name must be there"),
        ({"issuer": {"name": "a", "town": "b"}}, "invoices.issuer.town is not a setting"),
        ({"issuer": {"name": "a" * 201}}, "invoices.issuer.name must be a text of at most 200"),
        ({"issuer": {"name": "a\nb"}}, "invoices.issuer.name must be a text"),
        ({"issuer": {"name": "a", "address": ["x"] * 7}}, "address must be a list of at most 6"),
        ({"issuer": {"name": "a", "address": "x"}}, "address must be a list"),
        ({"customers": {"acme": {"name": 5}}}, "invoices.customers.acme.name must be a text"),
        ({"due_days": 366}, "invoices.due_days must be a whole number from 0 to 365"),
        ({"due_days": True}, "invoices.due_days must be a whole number"),
        ({"terms": 5}, "invoices.terms must be a text"),
        ({"fonts": ["f.ttf"] * 9}, "invoices.fonts must be a list of at most 8"),
    ],
)
def test_a_wrong_setting_of_invoices_is_named(table: dict[str, Any], setting: str) -> None:
    with pytest.raises(UsageError, match=re.escape(setting)):
        read_parties(table)
