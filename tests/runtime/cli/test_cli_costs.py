"""`dsfn runs cost` and `dsfn cost advise` against a real node."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_documents import assert_shape, documented
from cli_runs import Dsfn, serving

SOURCE = """
import time
from pathlib import Path

import dsfn


@dsfn.function(park_after=3, remove_after=600)
def spell(word: str) -> int:
    time.sleep(0.002)
    mark = Path("{place}", word)
    if word == "shy" and not mark.exists():
        mark.touch()
        raise ValueError("not yet")
    if word == "bad" and not Path("{place}", "mended").exists():
        raise ValueError("a bad word")
    return len(word)


@dsfn.function
def add(numbers: list[int]) -> int:
    return sum(numbers)


@dsfn.function
def unused() -> int:
    return 1


@dsfn.workflow
def letters(words: list[str]) -> int:
    return add(dsfn.map(spell, words, retries=1, backoff_delay="10ms", cache=True))
"""


@pytest.fixture(scope="module")
def dsfn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dsfn]:
    """A node with the workflow above."""
    with serving(tmp_path_factory.mktemp("costs"), SOURCE) as command_line:
        yield command_line


def run_of(dsfn: Dsfn, *words: str) -> str:
    dsfn("workflow", "run", "letters", "--data", json.dumps({"words": words}))
    return str(dsfn("runs", "list", "--json").json()["runs"][0]["id"])


def step(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in document["steps"] if each["id"] == name)
    return found


def test_a_run_costs_what_its_calls_cost_retries_included(dsfn: Dsfn) -> None:
    run = run_of(dsfn, "one", "shy", "three")
    found = dsfn("runs", "cost", run, "--json").json()
    assert_shape(found, documented("dsfn runs cost"))
    spell = step(found, "spell")
    assert (spell["requests"], spell["items"], spell["retries"]) == (4, 3, 1)
    tries = {(each["attempt"], each["status"]): each["requests"] for each in spell["attempts"]}
    assert tries == {(1, "failed"): 1, (1, "succeeded"): 2, (2, "succeeded"): 1}
    assert found["requests"] == 5
    for name in ("requests", "quantity_us", "held_us", "busy_us", "restore_us", "amount_nano"):
        assert found[name] == sum(each[name] for each in found["steps"])
        assert spell[name] == sum(each[name] for each in spell["attempts"])
    assert found["amount_nano"] > 0


def test_it_is_what_the_ledger_has_and_what_the_bill_says(dsfn: Dsfn) -> None:
    run = run_of(dsfn, "alpha", "beta")
    run_of(dsfn, "gamma")
    found = dsfn("runs", "cost", run, "--json").json()
    with sqlite3.connect(dsfn.directory / "data" / "ledger.db") as connection:
        rows = connection.execute(
            "SELECT count(*), sum(busy_us), sum(held_us), sum(restore_us) FROM entries"
            " WHERE run = ? AND kind = 'usage'",
            (run,),
        ).fetchone()
    assert rows == tuple(found[n] for n in ("requests", "busy_us", "held_us", "restore_us"))
    bill = dsfn("bill", "report", "--by", "run", "--json").json()
    lines = [line for line in bill["lines"] if line.get("run") == run]
    for name in ("requests", "quantity_us", "busy_us", "held_us", "restore_us"):
        assert found[name] == sum(line[name] for line in lines), name
    # The bill divides among all runs what it rounds once: a line is less than 1 nano-unit off.
    amount_nano = sum(line["amount_nano"] for line in lines)
    assert abs(found["amount_nano"] - amount_nano) <= len(lines)
    runs = [
        dsfn("runs", "cost", each["id"], "--json").json()
        for each in dsfn("runs", "list", "--json").json()["runs"]
    ]
    by_step = dsfn("bill", "report", "--by", "step", "--json").json()["lines"]
    for name in ("spell", "add"):
        own = [line for line in by_step if line.get("step") == name]
        mine = [step(each, name) for each in runs]
        for unit in ("requests", "quantity_us", "busy_us", "held_us", "restore_us"):
            assert sum(line[unit] for line in own) == sum(each[unit] for each in mine), unit


def test_what_a_retry_takes_over_and_what_was_kept_cost_nothing(dsfn: Dsfn) -> None:
    (dsfn.directory / "mended").unlink(missing_ok=True)
    first = run_of(dsfn, "fine", "bad")
    (dsfn.directory / "mended").touch()
    again = dsfn("runs", "retry", first, "--json").json()["id"]
    deadline = time.monotonic() + 30
    while dsfn("runs", "show", again, "--json").json()["state"] == "running":
        assert time.monotonic() < deadline
    found = dsfn("runs", "cost", again, "--json").json()
    spell = step(found, "spell")
    assert (found["retry_of"], spell["taken_over"], spell["requests"]) == (first, 1, 1)
    assert spell["note"] == f"1 taken over from run {first}"
    kept = dsfn("runs", "cost", run_of(dsfn, "fine"), "--json").json()
    spell = step(kept, "spell")
    assert (spell["cached"], spell["requests"], spell["amount_nano"]) == (1, 0, 0)
    assert spell["note"] == "1 from results that were kept"


def test_the_cost_is_shown_as_a_table_also_below_the_picture_of_a_run(dsfn: Dsfn) -> None:
    run = run_of(dsfn, "here", "there")
    table = dsfn("runs", "cost", run).out
    assert table.startswith("STEP")
    assert "Total of 3 calls, retries included: 0.0" in table
    assert dsfn("runs", "show", run).out.endswith(table)
    missing = dsfn("runs", "cost", "nothing")
    assert (missing.code, missing.out) == (1, "")


def call(dsfn: Dsfn, word: str) -> None:
    assert dsfn("invoke", "spell", "--data", json.dumps({"word": word})).code == 0


def test_advice_is_by_what_the_ledger_has_of_this_month(dsfn: Dsfn) -> None:
    for number in range(3):
        call(dsfn, f"word-{number}")
        time.sleep(3.5)  # longer than `park_after`
    found = dsfn("cost", "advise", "--for", "this month", "--json").json()
    assert_shape(found, documented("dsfn cost advise"))
    costs = {each["function"]: each for each in found["functions"]}
    assert costs["unused"]["calls"] == 0, "it was loaded when it was deployed, no more"
    spell = costs["spell"]
    assert spell["calls"] >= 3
    assert spell["cold_calls"] >= 3
    assert spell["idle_nano"] > 0 < spell["restore_nano"]
    parking = {each["park_after_us"]: each for each in spell["parking"]}
    # As it is a replay gives what was, but for how late replicas are parked.
    as_it_is = parking[3_000_000]
    actual = spell["idle_nano"] + spell["restore_nano"]
    assert abs(as_it_is["cost_nano"] - actual) < actual // 2
    assert as_it_is["cold_calls"] >= spell["cold_calls"]
    assert parking[600_000_000]["cold_calls"] < spell["cold_calls"]
    only = dsfn("cost", "advise", "--for", "today", "--function", "add", "--json").json()
    assert [each["function"] for each in only["functions"]] == ["add"]


def test_advice_is_a_table_and_its_assumptions(dsfn: Dsfn) -> None:
    words = dsfn("cost", "advise", "--for", "this month").out
    assert words.startswith("FUNCTION")
    assert "park_after=" in words
    assert "A replica comes back in" in words
    assert "the best of these for each function save" in words


def test_where_there_is_nothing_to_advise_it_says_so(dsfn: Dsfn) -> None:
    for arguments in (["--month", "2020-01"], []):
        run = dsfn("cost", "advise", *arguments)
        assert (run.code, run.out.startswith("Nothing to advise: ")) == (0, True)


def test_a_time_or_a_name_that_makes_no_sense_is_one_sentence(dsfn: Dsfn, tmp_path: Path) -> None:
    for arguments in (
        ["--month", "2020-13"],
        ["--for", "soon"],
        ["--month", "2020-01", "--for", "today"],
        ["--function", "nobody"],
    ):
        run = dsfn("cost", "advise", *arguments)
        assert run.code in (1, 2)
        assert (run.out, run.err.count("\n")) == ("", 1)
    url = dsfn("status", "--json").json()["url"]
    both = httpx.get(f"{url}/cost/advice", params={"month": "2020-01", "for": "today"})
    assert (both.status_code, both.json()["detail"].endswith("not both.")) == (400, True)
