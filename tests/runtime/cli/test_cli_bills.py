"""Bills, closed months and their documents against a real node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cli_documents import assert_shape, documented
from cli_runs import Dsfn

from dsfn.billing.periods import Month
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.runtime.clock import SystemClock

NOW = Month.containing(SystemClock().now_us())
LAST = Month.containing(NOW.start_us - 1)
CONFIG = """
[billing]
tax = 1900
tax_name = "VAT"
devices.cpu.pico_per_second = 1_000_000_000_000

[invoices]
due_days = 14
terms = "Please pay by bank transfer."

[invoices.issuer]
name = "Models, Inc."
address = ["1 Main Street", "Springfield"]
tax_id = "DE123456789"

[invoices.customers.acme]
name = "Acme Corporation"
"""


def row(name: str, tenant: str, seconds: int, at_us: int) -> Usage:
    held_us = seconds * 1_000_000
    return Usage(
        name, tenant, "", "echo", "echo-1", "cpu", at_us, held_us, held_us, 0, "succeeded",
        workflow="nightly", run=f"run-{name}", step="first", key_id="key-1",
    )  # fmt: skip


@pytest.fixture
def dsfn(tmp_path: Path) -> Iterator[Dsfn]:
    """A node whose ledger has usage of two tenants in the last month."""
    with billing(tmp_path) as command_line:
        yield command_line


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dsfn]:
    """Such a node for all tests that change nothing in its books."""
    with billing(tmp_path_factory.mktemp("bills")) as command_line:
        yield command_line


@contextmanager
def billing(directory: Path) -> Iterator[Dsfn]:
    data = directory / "data"
    data.mkdir()
    (data / "config.toml").write_text(CONFIG)
    ledger = SqliteLedger(data / "ledger.db")
    day_us = LAST.start_us + 9 * 86_400_000_000
    ledger.post(
        [
            row("a", "acme", 10, day_us),
            row("b", "acme", 5, day_us + 86_400_000_000),
            row("c", "bob", 7, day_us),
        ]
    )
    ledger.close()
    command_line = Dsfn(directory, {"DSFN_DATA": str(data)})
    command_line("up", "--detach", "--port", "0", "--json").json()
    try:
        yield command_line
    finally:
        command_line("down")


def test_a_month_is_reported_closed_shown_verified_and_credited(dsfn: Dsfn) -> None:
    report = dsfn("bill", "report", "--for", "last month", "--json").json()
    assert (report["month"], report["status"], report["total_minor"]) == (LAST.text, "open", 2618)
    closed = dsfn("bill", "close", LAST.text, "--json")
    document = closed.json()
    assert_shape(document, documented("dsfn bill close"))
    assert [each["total_minor"] for each in document["invoices"]] == [1785, 833]
    assert dsfn("bill", "close", LAST.text, "--json").raw == closed.raw
    number = f"{LAST.text}-0001"
    shown = dsfn("bill", "show", number, "--json")
    assert_shape(shown.json(), documented("dsfn bill show"))
    assert sha256(shown.raw.rstrip(b"\n")).hexdigest() == document["invoices"][0]["sha256"]
    assert dsfn("bill", "show", number, "--json").raw == shown.raw
    words = dsfn("bill", "show", number).out
    for line in ("to: Acme Corporation", "from: Models, Inc., 1 Main Street", "total: 17.85 USD"):
        assert line in words
    check = dsfn("bill", "verify", number, "--json").json()
    assert_shape(check, documented("dsfn bill verify"))
    assert check["ok"]
    assert "follows from the journal" in dsfn("bill", "verify", number).out
    credit = ("bill", "credit", number, "--amount", "5.95", "--reason", "slow", "--key", "k")
    note = dsfn(*credit, "--json")
    assert_shape(note.json(), documented("dsfn bill credit"))
    assert (note.json()["total_minor"], note.json()["tax_minor"]) == (-595, -95)
    assert dsfn(*credit, "--json").raw == note.raw
    over = dsfn("bill", "credit", number, "--amount", "11.91", "--reason", "more")
    assert (over.code, over.out) == (1, "")
    assert "can be credited with 11.90 USD at most" in over.err
    rows = dsfn("bill", "list", "--json").json()
    assert_shape(rows, documented("dsfn bill list"))
    assert [each["kind"] for each in rows["invoices"]] == ["invoice", "invoice", "credit"]
    both = dsfn("bill", "show", LAST.text, "--json").json()
    assert both["invoices"][0] == shown.json()
    assert dsfn("bill", "list", "--tenant", "bob").out.count("\n") == 2


def test_every_way_to_divide_a_bill_comes_to_the_same(reader: Dsfn) -> None:
    names = {
        "workflow": "nightly",
        "run": "run-a",
        "step": "first",
        "key": "key-1",
        "day": LAST.text,
    }
    for by in ("function", "revision", "workflow", "run", "step", "day", "key"):
        found = reader("bill", "report", "--month", LAST.text, "--by", by, "--json").json()
        assert found["total_minor"] == 2618
        assert sum(line["amount_minor"] for line in found["lines"]) == 2618
        words = reader("bill", "report", "--month", LAST.text, "--by", by).out
        assert names.get(by, "echo") in words
        assert "26.18 USD" in words
    mine = reader("bill", "report", "--month", LAST.text, "--tenant", "bob", "--json").json()
    assert (mine["tenant"], mine["total_minor"]) == ("bob", 833)
    assert mine["devices"] == found["devices"]


def test_an_empty_tenant_and_a_key_that_is_not_there_are_refused(reader: Dsfn) -> None:
    for command in (("bill", "report"), ("bill", "list")):
        refused = reader(*command, "--tenant", "")
        assert (refused.code, refused.out) == (2, "")
        assert "tenant" in refused.err
    unknown = reader("budgets", "set", "1.5", "--tenant", "acme", "--of-key", "nope")
    assert (unknown.code, unknown.out) == (1, "")
    assert "'nope'" in unknown.err


def test_a_stretch_of_time_is_reported_at_list_price(reader: Dsfn) -> None:
    start, end = f"{LAST.text}-10", f"{LAST.text}-11"
    found = reader("bill", "report", "--start", start, "--end", end, "--json").json()
    assert (found["month"], found["total_minor"]) == (None, 1700)
    assert (found["start"], found["end"]) == (f"{start}T00:00:00Z", f"{end}T00:00:00Z")
    assert (
        "at list price: 17.00 USD" in reader("bill", "report", "--start", start, "--end", end).out
    )
    half = reader("bill", "report", "--start", f"{start}T00:00:05Z", "--end", end, "--json").json()
    assert half["total_minor"] == 700
    assert "Nothing was used" in reader("bill", "report", "--for", "yesterday").out
    whole = reader(
        "bill", "report", "--start", f"{LAST.text}-01", "--end", f"{NOW.text}-01", "--json"
    )
    assert whole.json()["month"] == LAST.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "--for", "tomorrow"], "'tomorrow' is not a time of the books"),
        (["report", "--start", "2026-11-01"], "A bill is of a month, for a time, or from a start"),
        (["report", "--month", "2026-11", "--for", "today"], "A bill is of a month, for a time"),
        (["report", "--start", "x", "--end", "y"], "'x' is neither a date"),
        (["close", "May"], "'May' is not a month"),
    ],
)
def test_a_time_that_makes_no_sense_is_one_sentence(
    reader: Dsfn, arguments: list[str], sentence: str
) -> None:
    run = reader("bill", *arguments)
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
    assert sentence in run.err


def test_what_cannot_be_closed_or_shown_is_one_sentence(reader: Dsfn) -> None:
    for arguments, sentence in (
        (["close", NOW.text], f"{NOW.text} is not over: it can be closed from"),
        (["show", "2001-01-0001"], "There is no document 2001-01-0001."),
        (["verify", "2001-01-0001"], "There is no document 2001-01-0001."),
        (["credit", "x", "--amount", "1,5", "--reason", "r"], "'1,5' is not an amount"),
        (["correct", "nobody", "--status", "platform", "--reason", "r"], "There is no call nobody"),
        (["correct", "a", "--status", "gone", "--reason", "r"], "status must be one of"),
    ):
        run = reader("bill", *arguments)
        assert (run.code, run.out, run.err.count("\n")) == (1, "", 1), arguments
        assert sentence in run.err
    assert reader("bill", "show", "2001-01").out == "There are no invoices of 2001-01.\n"


def test_a_corrected_call_is_taken_off_the_next_bill_and_survives_a_restart(dsfn: Dsfn) -> None:
    dsfn("bill", "close", LAST.text)
    correct = ("bill", "correct", "c", "--status", "platform", "--reason", "a disk failed")
    row = dsfn(*correct, "--json").json()
    assert_shape(row, documented("dsfn bill correct"))
    assert (row["corrects"], row["invocation_id"], row["status"]) == ("c", "c.2", "platform")
    assert dsfn(*correct).out == "c.2 stands in for c: a disk failed\n"
    other = dsfn(*correct[:-1], "another reason")
    assert (other.code, other.out) == (1, "")
    before = dsfn("bill", "show", f"{LAST.text}-0002", "--json").raw
    assert dsfn("down").code == 0
    assert dsfn("up", "--detach", "--port", "0").code == 0
    assert dsfn("bill", "show", f"{LAST.text}-0002", "--json").raw == before
    report: Any = dsfn("bill", "report", "--json").json()
    (line, tax) = report["lines"]
    assert (line["kind"], line["service_month"], line["amount_minor"]) == (
        "correction",
        LAST.text,
        -700,
    )
    assert (tax["kind"], tax["amount_minor"]) == ("tax", -133)
    shown = dsfn("bill", "report")
    assert "correction: echo of" in shown.out
    assert json.loads(before)["total_minor"] == 833


def test_a_rate_card_cannot_begin_in_a_closed_month(dsfn: Dsfn) -> None:
    dsfn("bill", "close", LAST.text)
    card = dsfn.directory / "card.toml"
    card.write_text(f"effective_from = {LAST.text}-20T00:00:00Z\n[default]\npico_per_second = 1\n")
    run = dsfn("rates", "set", str(card))
    assert run.code == 1
    assert f"the months until {LAST.text} are closed" in run.err
