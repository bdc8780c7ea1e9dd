"""What increments round up is added up beside the rows, and is what the rows say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_makers import DAY_0, INSTANTS, lists_of_calls

from dsfn.billing import padding_sums
from dsfn.billing.evidence import NO_EVIDENCE
from dsfn.billing.ledger import Ledger, UsageSum
from dsfn.billing.moving import move
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.queries import Values
from dsfn.billing.rates import BASES, Rate, RateBook, RateCard, RateStore
from dsfn.billing.reading import LedgerReads
from dsfn.billing.selection import BYS, Selection
from dsfn.billing.service import used_in
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.billing.verify import verify
from dsfn.functions.errors import Conflict, UsageError

MakeUsage = Callable[..., Usage]
PLAIN = RateCard()
TENTHS = RateCard(devices={"cpu": Rate(10**6, increment_us=100_000)}, default=Rate(10**6))
DAYS = Selection(DAY_0, DAY_0 + 3 * DAY_US)


class FromRows(LedgerReads):
    """A ledger that adds nothing up: what rounding adds is read in the rows."""

    def __init__(self, ledger: SqliteLedger | PostgresLedger) -> None:
        self._ledger = ledger

    def _read(self, query: str, values: Values) -> list[Any]:
        return [] if query == "select_card_span" else self._ledger._read(query, values)

    def stream(self, query: str, values: Values = ()) -> Iterator[Any]:
        return self._ledger.stream(query, values)


def used(ledger: Any, book: RateBook, wanted: Selection) -> dict[tuple[Any, ...], list[int]]:
    """All that is billed, by what tells lines apart."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for segment in book.segments(wanted.start_us, wanted.end_us):
        part = replace(wanted, start_us=segment.start_us, end_us=segment.end_us)
        for each in used_in(ledger, book, segment.card, part):
            sums = found.setdefault((segment.card.number, *_texts(each)), [0] * 5)
            for at, name in enumerate(("requests", "busy_us", "held_us", "restore_us")):
                sums[at] += getattr(each, name)
            sums[4] += each.padding_us
    return {key: sums for key, sums in found.items() if any(sums)}


def _texts(each: UsageSum) -> Sequence[Any]:
    names = ("tenant", "function", "device_class", "status", "day", "revision", "key_id")
    return [getattr(each, name) for name in (*names, "workflow", "run", "step")]


def build(ledger: Ledger) -> int:
    """Counts all rows that are not counted; how many times some were."""
    portions = 0
    while ledger.build_paddings(3):
        portions += 1
    return portions


def queries_of(
    ledger: SqliteLedger | PostgresLedger, card: RateCard, wanted: Selection = DAYS
) -> list[str]:
    """What is asked of the database for a bill, `sum_padding` being what reads rows."""
    asked: list[str] = []

    def read(query: str, values: Values) -> list[Any]:
        asked.append(query)
        return ledger._read(query, values)

    padding_sums.paddings(read, wanted, card, ["cpu"])
    return asked


@pytest.fixture
def call(make_usage: MakeUsage) -> MakeUsage:
    def make(name: str, day: int = 0, **changes: Any) -> Usage:
        started_at_us = DAY_0 + day * DAY_US + 1_000
        fields = {"started_at_us": started_at_us, "held_us": 250_000, **changes}
        return make_usage(invocation_id=name, **fields)

    return make


@pytest.fixture
def rates(ledger: Ledger) -> RateStore:
    return RateStore(ledger.cards(), PLAIN, 0)


INCREMENTS = st.sampled_from([1, 2, 7, 1_000, 86_400, DAY_US // 24])
RATES = st.builds(Rate, st.just(1), st.sampled_from(BASES), increment_us=INCREMENTS)
CARDS = st.builds(
    RateCard,
    devices=st.dictionaries(st.just("cpu"), RATES),
    default=RATES,
    effective_from_us=INSTANTS,
)
STEPS = st.one_of(
    st.tuples(st.just("post"), st.integers(1, 6)),
    st.tuples(st.just("set"), CARDS),
    st.tuples(st.just("build"), st.integers(1, 4)),
    st.tuples(st.just("correct"), st.tuples(st.integers(0, 11), st.integers(0, 9))),
    st.tuples(st.just("correct"), st.tuples(st.integers(0, 11), st.integers(0, DAY_US))),
    st.tuples(st.just("close"), st.none()),
    st.tuples(st.just("open again"), st.none()),
)
RANGES = st.tuples(INSTANTS, INSTANTS).map(sorted)


@settings(max_examples=40, deadline=None)
@given(lists_of_calls(), CARDS, st.lists(STEPS, max_size=12), RANGES)
def test_a_bill_is_the_same_as_from_its_rows_whatever_happened(
    calls: list[Usage], first: RateCard, steps: list[tuple[str, Any]], bounds: list[int]
) -> None:
    posted: list[Usage] = []
    with TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        ledger = SqliteLedger(path)
        store = RateStore(ledger.cards(), replace(first, effective_from_us=0), 0)
        for step, value in steps:
            match step:
                case "post":
                    rows = calls[len(posted) : len(posted) + value]
                    ledger.post(rows)
                    posted += rows
                case "set":
                    with suppress(Conflict):
                        store.add(value, 0)
                case "build":
                    ledger.build_paddings(value)
                case "correct" if posted:
                    _correct(ledger, posted[value[0] % len(posted)], value[1])
                case "close":
                    ledger.start_closing(Month.containing(DAY_0).end_us)
                case "open again":
                    ledger.close()
                    ledger = SqliteLedger(path)
                    store = RateStore(ledger.cards(), replace(first, effective_from_us=0), 0)
        _compare(ledger, store.book, bounds)
        build(ledger)
        ledger.post(calls[len(posted) :])
        assert build(ledger) == 0
        _compare(ledger, store.book, bounds)
        ledger.close()


def _correct(ledger: SqliteLedger, call: Usage, restore_us: int) -> None:
    corrected = replace(
        call,
        invocation_id=f"{call.invocation_id}.2",
        busy_us=call.busy_us // 2,
        restore_us=min(restore_us, call.restore_us),
    )
    with suppress(Conflict):
        ledger.correct(call.invocation_id, corrected)


def _compare(ledger: SqliteLedger, book: RateBook, bounds: list[int]) -> None:
    rows = FromRows(ledger)
    month = Month.containing(DAY_0)
    for wanted in (
        Selection(bounds[0], bounds[1]),
        Selection(month.start_us, month.end_us, "day", tenant="t"),
        Selection(month.start_us, month.end_us, "key", last=month.text),
        Selection(month.start_us, month.end_us, "step", first=month.next().text),
    ):
        assert used(ledger, book, wanted) == used(rows, book, wanted)
    assert ledger.verify().problems == ()


def test_whole_days_are_added_up_and_the_others_read(
    ledger: SqliteLedger | PostgresLedger, rates: RateStore, call: MakeUsage
) -> None:
    ledger.post([call("a", 0), call("b", 1)])
    card = rates.add(replace(TENTHS, effective_from_us=DAY_0 + 5), 0).card
    # What was there before the card is read until it is counted.
    assert queries_of(ledger, card).count("sum_padding") == 3
    assert build(ledger) > 0
    ledger.post([call("c", 1, held_us=10_000), call("d", 2)])
    assert build(ledger) == 0
    # The day in which the card begins has a part of its own.
    asked = queries_of(ledger, card)
    assert (asked.count("sum_paddings"), asked.count("sum_padding")) == (1, 1)
    assert queries_of(ledger, card, replace(DAYS, by="run")).count("sum_padding") == 3
    found = ledger.paddings(replace(DAYS, by="day"), card, ["cpu"])
    assert {each.day * DAY_US - DAY_0: each.padding_us for each in found} == {
        0: 50_000,
        DAY_US: 50_000 + 90_000,
        2 * DAY_US: 50_000,
    }
    assert ledger.verify().problems == ()


@pytest.mark.parametrize("by", BYS)
def test_a_bill_by_anything_is_the_same_as_from_its_rows(
    ledger: SqliteLedger | PostgresLedger, rates: RateStore, call: MakeUsage, by: Any
) -> None:
    rates.add(replace(TENTHS, effective_from_us=DAY_0), 0)
    build(ledger)
    for n, day in enumerate((0, 0, 1, 2, 2)):
        about = {"tenant": f"t{n % 2}", "key_id": f"k{n}", "workflow": f"w{n}", "run": f"r{n}"}
        ledger.post([call(f"i-{n}", day, revision=f"v{n}", held_us=n + 1, step="s", **about)])
    assert build(ledger) == 0
    wanted = replace(DAYS, by=by)
    assert used(ledger, rates.book, wanted) == used(FromRows(ledger), rates.book, wanted) != {}


def test_a_card_that_begins_in_the_past_takes_over_its_days(
    ledger: SqliteLedger | PostgresLedger, rates: RateStore, call: MakeUsage
) -> None:
    rates.add(replace(TENTHS, effective_from_us=DAY_0), 0)
    build(ledger)
    ledger.post([call("a", 0), call("b", 1), call("c", 2)])
    thirds = replace(TENTHS, devices={"cpu": Rate(1, increment_us=300_000)})
    card = rates.add(replace(thirds, effective_from_us=DAY_0 + DAY_US), 0).card
    ledger.post([call("d", 2)])
    own = replace(DAYS, start_us=DAY_0 + DAY_US)
    assert "sum_padding" in queries_of(ledger, card, own)
    build(ledger)
    assert "sum_padding" not in queries_of(ledger, card, own)
    assert used(ledger, rates.book, DAYS) == used(FromRows(ledger), rates.book, DAYS)
    assert sum(e.padding_us for e in ledger.paddings(own, card, ["cpu"])) == 3 * 50_000
    assert ledger.verify().problems == ()


def test_a_card_of_days_without_calls_has_nothing_to_make_up_for(
    ledger: Ledger, rates: RateStore, call: MakeUsage
) -> None:
    ledger.post([call(f"i-{n}") for n in range(20)])
    rates.add(replace(TENTHS, effective_from_us=DAY_0 + DAY_US), 0)
    assert build(ledger) == 0
    ledger.post([call("next", 1)])
    assert build(ledger) == 0


def test_rows_that_come_while_older_ones_are_counted_wait_for_their_turn(
    ledger: SqliteLedger | PostgresLedger, rates: RateStore, call: MakeUsage
) -> None:
    ledger.post([call("a"), call("b", 1), call("c", 2)])
    card = rates.add(replace(TENTHS, effective_from_us=DAY_0), 0).card
    for name in "defg":
        assert ledger.build_paddings(1) == 1
        ledger.post([call(name)])
        assert ledger.verify().problems == ()
        assert queries_of(ledger, card).count("sum_padding") == 3
    build(ledger)
    assert queries_of(ledger, card).count("sum_padding") == 0
    assert sum(e.padding_us for e in ledger.paddings(DAYS, card, ["cpu"])) == 7 * 50_000
    late = Selection(DAYS.start_us, DAYS.end_us, first="2025-01")
    assert ledger.paddings(late, card, ["cpu"]) == []
    assert ledger.paddings(replace(DAYS, tenant="other"), card, ["cpu"]) == []


def test_another_card_than_the_ledger_s_is_read_in_the_rows(
    ledger: SqliteLedger | PostgresLedger, rates: RateStore, call: MakeUsage
) -> None:
    card = rates.add(replace(TENTHS, effective_from_us=DAY_0), 0).card
    build(ledger)
    ledger.post([call("a")])
    other = replace(card, devices={"cpu": Rate(10**6, increment_us=99_000)})
    assert queries_of(ledger, other).count("sum_padding") == 3
    assert queries_of(ledger, card).count("sum_padding") == 0


def test_rows_that_an_older_version_posted_are_counted_later(
    tmp_path: Path, call: MakeUsage
) -> None:
    path = tmp_path / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        card = RateStore(ledger.cards(), TENTHS, 0).book.cards[0]
        build(ledger)
        ledger.post([call("a")])
    # Nobody has told this one of paddings.
    with closing(SqliteLedger(path)) as older:
        older.post([call("b"), call("c")])
        assert queries_of(older, card).count("sum_padding") == 3
        assert older.verify().problems == ()
    with closing(SqliteLedger(path)) as ledger:
        assert build(ledger) > 0
        ledger.post([call("d")])
        assert queries_of(ledger, card).count("sum_padding") == 0
        assert sum(e.padding_us for e in ledger.paddings(DAYS, card, ["cpu"])) == 4 * 50_000
        assert ledger.verify().problems == ()


def test_the_chains_of_several_writers_are_counted_each(database: str, call: MakeUsage) -> None:
    with closing(PostgresLedger(database, writers=3)) as ledger:
        for n in range(3):
            # The last writer that was given back is the next one.
            with ledger._writer(), ledger._writer() as second:
                if n:
                    ledger.post([call(f"i-{n}-{m}", m) for m in range(3)])
                second.post([])
            ledger.post([call(f"j-{n}", 1)])
        assert len(ledger.heads()) == 2
    # With fewer writers a chain has none.
    with closing(PostgresLedger(database, writers=1)) as ledger:
        card = RateStore(ledger.cards(), TENTHS, 0).book.cards[0]
        build(ledger)
        assert queries_of(ledger, card).count("sum_padding") == 0
        assert sum(e.padding_us for e in ledger.paddings(DAYS, card, ["cpu"])) == 9 * 50_000
        assert ledger.verify().problems == ()


TAMPERED = {
    "UPDATE paddings SET padding_us = padding_us - 1": "rate card 2 rounds up on .* by -1 us",
    "DELETE FROM paddings": "rate card 2 rounds up on .* by -50000 us",
    "UPDATE paddings SET tenant = 'other'": "rate card 2 rounds up on .* of other",
    "UPDATE roundings SET built_seq = built_seq - 1": "rate card 2 rounds up on .* by 50000 us",
    "UPDATE roundings SET built_seq = built_seq + 1": "of more rows than chain 0 has",
    "INSERT INTO roundings (card, chain, built_seq) VALUES (3, 0, 1)": "card 3, which there is not",
}


@pytest.mark.parametrize("statement", TAMPERED)
def test_paddings_that_are_not_what_the_rows_come_to_are_named(
    ledger: Ledger,
    rates: RateStore,
    call: MakeUsage,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    statement: str,
) -> None:
    rates.add(replace(TENTHS, effective_from_us=DAY_0), 0)
    build(ledger)
    ledger.post([call("a")])
    if isinstance(ledger, SqliteLedger):
        with closing(apsw.Connection(str(tmp_path / "ledger.db"))) as connection:
            connection.execute(statement)
    else:
        with psycopg.connect(request.getfixturevalue("database")) as other:
            other.execute(f"SET search_path = dsfn; {statement}".encode())
    found = ledger.verify().problems
    assert {(each.row, each.kind) for each in found} == {(None, "padding")}
    assert any(re.search(TAMPERED[statement], each.detail) for each in found)


def test_a_card_that_was_tampered_with_rounds_nothing(tmp_path: Path, call: MakeUsage) -> None:
    path = tmp_path / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        RateStore(ledger.cards(), TENTHS, 0)
        with closing(apsw.Connection(str(path))) as connection:
            connection.execute("DROP TRIGGER rate_cards_are_never_updated")
            connection.execute("UPDATE rate_cards SET document = '[]'")
        ledger.post([call("a")])
        assert ledger.build_paddings(10) == 0
        assert {each.kind for each in ledger.verify().problems} >= {"card"}


def test_a_ledger_that_is_moved_has_its_paddings(
    tmp_path: Path, database: str, call: MakeUsage
) -> None:
    path = tmp_path / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        card = RateStore(ledger.cards(), TENTHS, 0).book.cards[0]
        ledger.post([call(f"i-{n}", n % 3) for n in range(9)])
    move(path, database, NO_EVIDENCE, lambda rows, of_rows: None)
    with closing(PostgresLedger(database)) as moved:
        assert queries_of(moved, card).count("sum_padding") == 0
        assert sum(e.padding_us for e in moved.paddings(DAYS, card, ["cpu"])) == 9 * 50_000


def test_the_ledger_of_a_newer_version_is_refused(tmp_path: Path, call: MakeUsage) -> None:
    path = tmp_path / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        ledger.post([call("a")])
        books = ledger.books()
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA user_version = 900")
    with pytest.raises(UsageError, match=r"ledger\.db was written by a newer dsfn .*at 900"):
        SqliteLedger(path)
    with pytest.raises(UsageError, match="newer dsfn"):
        verify(books, NO_EVIDENCE)
    # Nobody holds it.
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA user_version = 0")
    SqliteLedger(path).close()
