"""The check of a ledger names whatever was done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from tampering import unguarded

from dsfn.billing.canonical import row_hash
from dsfn.billing.chain_check import read_row
from dsfn.billing.entry import COLUMNS, Entry
from dsfn.billing.evidence import MAX_COMPARED, Evidence
from dsfn.billing.interval import Interval, IntervalKind
from dsfn.billing.posting import Posting
from dsfn.billing.reservation import Reservation
from dsfn.billing.signing import SigningKey
from dsfn.billing.sqlite_journal import SqliteJournal
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.sqlite_verify import SqliteBooks
from dsfn.billing.usage import Usage
from dsfn.billing.verification import MAX_PROBLEMS, Verification
from dsfn.billing.verify import verify
from dsfn.functions.errors import StoreUnavailable, UsageError

T0 = 1_790_000_000_000_000
NOW = 1_790_000_100_000_000
LEASE: dict[str, Any] = {
    "lease": "l-1",
    "device": "gpu:0+gpu:1",
    "devices": 2,
    "device_class": "NVIDIA L4",
    "function": "echo",
    "revision": "echo-1",
    "started_at_us": T0,
}


def interval(kind: IntervalKind, id: str, duration_us: int, **changes: Any) -> Interval:
    return Interval(**{**LEASE, "tenant": "", **changes}, kind=kind, id=id, duration_us=duration_us)


def postings() -> list[Posting]:
    """A lease with calls, one of a platform's fault, and money set aside: 16 rows."""
    calls = [
        Usage(
            f"i-{n:02}", "t", "", "echo", "echo-1", "NVIDIA L4", T0 + n, 1, 10 + n, 0,
            "platform" if n == 3 else "succeeded", "", "", "gpu:0+gpu:1", "l-1", 2,
        )
        for n in range(10)
    ]  # fmt: skip
    return [
        *calls,
        Reservation("reserve", "r-1", "t", "k", "USD", 7, T0),
        Reservation("reserve", "r-2", "t", "k", "USD", 8, T0),
        Reservation("post", "r-1", "t", "k", "USD", 7, T0),
        interval("restore", "l-1/0", 100),
        interval("idle", "l-1/1", 1000, reason="keep-warm", tenant="t"),
        interval("held", "l-1/2", 1245, closes=True),
    ]


ROWS = len(postings())


class Memory:
    """A place for checkpoints that nobody can write to but the node."""

    name = "the safe"

    def __init__(self, found: Iterable[tuple[int, str]] = (), away: bool = False) -> None:
        self.found, self.away = dict(found), away

    def put(self, number: int, text: str) -> None:
        self.found[number] = text

    def since(self, number: int, limit: int) -> Sequence[tuple[int, str]]:
        if self.away:
            raise StoreUnavailable("It is away.")
        return sorted(entry for entry in self.found.items() if entry[0] >= number)[:limit]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.open(tmp_path_factory.mktemp("key") / "ledger-key.pem")


@pytest.fixture
def path(tmp_path: Path, key: SigningKey) -> Path:
    """A ledger with a checkpoint in the middle and one at the end."""
    ledger = SqliteLedger(tmp_path / "ledger.db")
    rows = postings()
    ledger.post(rows[:8])
    ledger.checkpoint(key, NOW)
    ledger.post(rows[8:])
    ledger.checkpoint(key, NOW + 1)
    ledger.close()
    return tmp_path / "ledger.db"


def check(path: Path, *places: Memory, keys: Iterable[str] = ()) -> Verification:
    return verify(SqliteBooks(path), Evidence(frozenset(keys), places))


def named(found: Verification) -> set[tuple[int | None, str]]:
    assert found.ok == (not found.problems)
    return {(problem.row, problem.kind) for problem in found.problems}


def tamper(path: Path, *statements: str) -> None:
    """What somebody does who may write the file and knows SQL."""
    with unguarded(path) as connection:
        for statement in statements:
            connection.execute(statement)


def forge(path: Path, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """What somebody does who knows all of this: hashes, sums and balances are made anew."""
    with unguarded(path) as connection:
        rows = connection.execute("SELECT * FROM entries ORDER BY seq").fetchall()
        entries = change([read_row(values).entry for values in rows])
        for table in ("entries", "rollups", "accounts", "open_reservations"):
            connection.execute(f"DELETE FROM {table}")
        SqliteJournal(connection).append(entries)


def renumber(by: int, where: str) -> list[str]:
    """Statements that shift the numbers of rows."""
    return [
        f"UPDATE entries SET seq = -seq WHERE {where}",
        f"UPDATE entries SET seq = {by} - seq WHERE seq < 0",
    ]


def swap(one: int, other: int) -> list[str]:
    return [
        f"UPDATE entries SET seq = 1000 WHERE seq = {one}",
        f"UPDATE entries SET seq = {one} WHERE seq = {other}",
        f"UPDATE entries SET seq = {other} WHERE seq = 1000",
    ]


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever tampers has a SQLite that does not mind what the table says of its columns."""

    def hook(connection: apsw.Connection) -> None:
        connection.execute("PRAGMA ignore_check_constraints = ON")

    apsw.connection_hooks.append(hook)
    yield
    apsw.connection_hooks.remove(hook)


def test_a_ledger_as_it_was_posted_is_right(path: Path, key: SigningKey) -> None:
    found = check(path, keys=[key.public_key])
    assert found == Verification(ok=True, rows=ROWS, checkpoints=2)
    assert found.to_document() == {"ok": True, "rows": ROWS, "checkpoints": 2, "problems": []}


def test_an_empty_ledger_is_right(tmp_path: Path) -> None:
    SqliteLedger(tmp_path / "ledger.db").close()
    assert check(tmp_path / "ledger.db") == Verification(ok=True, rows=0, checkpoints=0)


@pytest.mark.parametrize("row", [1, 5, ROWS])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_changed_row_is_named_whatever_was_changed(path: Path, column: str, row: int) -> None:
    change = "|| 'x'" if column in COLUMNS[6:] else "+ 1"
    tamper(path, f"UPDATE entries SET {column} = {column} {change} WHERE seq = {row}")
    found = check(path)
    assert (row, "changed") in named(found)
    assert {seq for seq, kind in named(found) if kind == "changed"} == {row}


@pytest.mark.parametrize("row", [1, 5, ROWS])
def test_a_changed_hash_is_named(path: Path, row: int) -> None:
    tamper(path, f"UPDATE entries SET hash = zeroblob(32) WHERE seq = {row}")
    assert (row, "changed") in named(check(path))
    assert (row + 1, "changed") not in named(check(path))


def test_two_changed_rows_are_both_named(path: Path) -> None:
    tamper(path, "UPDATE entries SET caller = 'x' WHERE seq IN (4, 5, 9)")
    assert named(check(path)) == {(4, "changed"), (5, "changed"), (9, "changed")}


@pytest.mark.parametrize("row", [1, 5, 8])
def test_a_deleted_row_is_named(path: Path, row: int) -> None:
    tamper(path, f"DELETE FROM entries WHERE seq = {row}")
    found = named(check(path))
    assert (row, "deleted") in found
    assert not {kind for _, kind in found} & {"changed", "inserted", "swapped"}


def test_a_deleted_row_is_named_when_the_others_were_renumbered(path: Path) -> None:
    tamper(path, "DELETE FROM entries WHERE seq IN (5, 6)", *renumber(-2, "seq > 6"))
    found = named(check(path))
    assert (5, "deleted") in found
    assert not {kind for _, kind in found} & {"changed", "inserted", "swapped"}


def test_an_inserted_row_is_named(path: Path) -> None:
    columns = ", ".join(COLUMNS).replace(" id,", " id || 'x',")
    copy = f"INSERT INTO entries SELECT 5, chain, {columns}, hash FROM entries WHERE seq = 4"
    tamper(path, *renumber(1, "seq > 4"), copy)
    found = named(check(path))
    assert (5, "inserted") in found
    assert not {kind for _, kind in found} & {"changed", "deleted", "swapped"}


def test_a_row_put_in_at_the_end_is_named(path: Path) -> None:
    columns = ", ".join(COLUMNS).replace(" id,", " id || 'x',")
    tamper(
        path,
        f"INSERT INTO entries SELECT {ROWS + 1}, chain, {columns}, hash FROM entries WHERE seq = 4",
    )
    assert (ROWS + 1, "changed") in named(check(path))


@pytest.mark.parametrize(("one", "other"), [(4, 5), (4, 6), (1, 9), (2, ROWS)])
def test_swapped_rows_are_named(path: Path, one: int, other: int) -> None:
    tamper(path, *swap(one, other))
    found = named(check(path))
    assert {(one, "swapped"), (other, "swapped")} <= found
    assert not {kind for _, kind in found} & {"changed", "deleted", "inserted"}


def test_a_tail_that_was_cut_off_is_named(path: Path) -> None:
    forge(path, lambda entries: entries[:-3])
    assert named(check(path)) == {(ROWS - 2, "cut off")}


def test_a_tail_is_missed_when_the_checkpoints_were_cut_off_with_it(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        kept: Any = connection.execute("SELECT number, document FROM checkpoints").fetchall()
    forge(path, lambda entries: entries[:9])
    tamper(path, "DELETE FROM checkpoints WHERE number = 2")
    assert check(path).ok
    assert named(check(path, Memory(kept))) == {(None, "checkpoint"), (10, "cut off")}


def test_a_row_that_was_changed_and_hashed_anew_is_named_with_its_successor(path: Path) -> None:
    with unguarded(path) as connection:
        connection.execute("UPDATE entries SET caller = 'x' WHERE seq = 5")
        rows: Any = connection.execute("SELECT * FROM entries ORDER BY seq").fetchall()
        before, row = read_row(rows[3]), read_row(rows[4])
        digest = row_hash(before.hash, 0, 5, row.entry)
        connection.execute("UPDATE entries SET hash = ? WHERE seq = 5", (digest,))
    assert named(check(path)) == {(6, "changed")}


def test_a_row_that_was_changed_with_all_that_follows_from_it_is_found_by_checkpoints(
    path: Path,
) -> None:
    def cheaper(entries: list[Entry]) -> list[Entry]:
        return [entry._replace(busy_us=0) if entry.id == "i-04" else entry for entry in entries]

    forge(path, cheaper)
    assert named(check(path)) == {(8, "checkpoint")}


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE rollups SET rows = rows + 1", "sum"),
        ("UPDATE rollups SET held_us = held_us - 1 WHERE kind = 'idle'", "sum"),
        ("DELETE FROM rollups WHERE kind = 'restore'", "sum"),
        ("UPDATE rollups SET tenant = 'other'", "sum"),
        ("UPDATE accounts SET balance = balance + 1 WHERE account = 'tenant/t'", "balance"),
        ("UPDATE accounts SET closed = 0", "balance"),
        ("DELETE FROM accounts WHERE account = 'platform/faults'", "balance"),
        ("UPDATE accounts SET balance = balance + 1 WHERE account = 'tenant/t'", "unbalanced"),
        ("DELETE FROM open_reservations", "reservation"),
        ("INSERT INTO open_reservations VALUES ('t', 'r-1')", "reservation"),
    ],
)
def test_what_is_kept_beside_the_rows_must_be_what_they_come_to(
    path: Path, statement: str, kind: str
) -> None:
    tamper(path, statement)
    assert kind in {kind for _, kind in named(check(path))}


def test_what_differs_is_said_with_what_is_kept_and_what_it_should_be(path: Path) -> None:
    tamper(
        path,
        "UPDATE rollups SET rows = rows + 2, busy_us = busy_us + 3, held_us = held_us - 4,"
        " restore_us = restore_us + 5 WHERE kind = 'idle'",
        "UPDATE accounts SET balance = balance + 7 WHERE account = 'tenant/t'",
        "INSERT INTO open_reservations VALUES ('t', 'r-1')",
    )
    assert [(problem.kind, problem.detail) for problem in check(path).problems] == [
        (
            "sum",
            "The sum of idle on 2026-09-21 of t, echo, NVIDIA L4 differs from its rows by 2 rows,"
            " 3 us busy, -4 us held and 5 us of restores.",
        ),
        (
            "balance",
            "Account tenant/t has 2271 of us:NVIDIA L4, but its rows come to 2264.",
        ),
        ("unbalanced", "The accounts of us:NVIDIA L4 come to 7 together, and not to 0."),
        ("reservation", "Whether reservation r-1 of t is open is not what its rows say."),
    ]


def test_a_closed_lease_must_come_to_zero(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    ledger.post([*postings()[:-1], interval("held", "l-1/2", 1244, closes=True)])
    ledger.close()
    (problem,) = check(tmp_path / "ledger.db").problems
    assert problem.kind == "lease"
    assert "lease/l-1 is closed, and yet its rows come to -2 of us:NVIDIA L4" in problem.detail


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE checkpoints SET document = replace(document, '\"seq\":8', '\"seq\":7')", "sig"),
        ("UPDATE checkpoints SET document = 'x'", "checkpoint"),
        ("DELETE FROM checkpoints WHERE number = 1", "checkpoint"),
        ("UPDATE checkpoints SET number = 7 WHERE number = 2", "checkpoint"),
    ],
)
def test_checkpoints_cannot_be_changed_either(path: Path, statement: str, kind: str) -> None:
    tamper(path, statement)
    found = check(path)
    assert any(problem.kind.startswith(kind) for problem in found.problems)


def test_a_checkpoint_signed_by_somebody_else_is_named(path: Path, tmp_path: Path) -> None:
    other = SigningKey.open(tmp_path / "other.pem")
    assert named(check(path, keys=[other.public_key])) == {(None, "signature")}


def test_a_copy_that_differs_is_named(path: Path, key: SigningKey) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        kept: Any = connection.execute("SELECT number, document FROM checkpoints").fetchall()
    assert check(path, Memory(kept), keys=[key.public_key]).ok
    assert check(path, Memory(kept[:1])).ok
    (problem,) = check(path, Memory([(1, kept[1][1])])).problems
    assert problem.detail == "Checkpoint 1 in the safe is another than here."


def test_a_place_that_cannot_be_read_is_named(path: Path) -> None:
    (problem,) = check(path, Memory(away=True)).problems
    assert problem.kind == "unreachable"
    assert "the safe could not be read: It is away." in problem.detail


def test_of_very_many_copies_the_newest_are_compared(path: Path) -> None:
    found = check(path, Memory((number, "x") for number in range(1, 5001)))
    assert len(found.problems) == MAX_PROBLEMS
    asked = []

    class Asked(Memory):
        def since(self, number: int, limit: int) -> Sequence[tuple[int, str]]:
            asked.append((number, limit))
            return []

    assert check(path, Asked()).ok
    assert asked == [(1, 2 * MAX_COMPARED)]


def test_a_check_names_a_thousand_problems_and_no_more(tmp_path: Path) -> None:
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        calls = [
            Usage(f"{n}", "t", "", "f", "", "cpu", T0 + n, 1, 2, 0, "succeeded")
            for n in range(3000)
        ]
        ledger.post(calls)
    tamper(tmp_path / "ledger.db", "UPDATE entries SET caller = 'x'")
    found = check(tmp_path / "ledger.db")
    assert len(found.problems) == MAX_PROBLEMS
    assert not found.ok


@pytest.mark.parametrize("content", [b"", b"no database\n" * 400])
def test_a_file_that_is_no_ledger_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(UsageError):
        check(tmp_path / "ledger.db")


def test_many_rows_are_checked_by_several_processes_as_by_one(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    for start in range(0, 30_000, 1000):
        ledger.post(
            [
                Usage(f"{n}", "t", "", "f", "", "cpu", T0 + n, 1, 2, 0, "succeeded")
                for n in range(start, start + 1000)
            ]
        )
    ledger.close()
    assert check(tmp_path / "ledger.db") == Verification(ok=True, rows=30_000, checkpoints=0)
    books = SqliteBooks(tmp_path / "ledger.db", processes=2, stretch_rows=2000)
    assert verify(books, Evidence()).ok
    tamper(tmp_path / "ledger.db", "UPDATE entries SET busy_us = 0 WHERE seq IN (7001, 20000)")
    found = verify(books, Evidence())
    assert {(7001, "changed"), (20000, "changed")} <= named(found)


def test_a_trigger_that_is_gone_or_refuses_nothing_is_named(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("DROP TRIGGER checkpoints_are_never_deleted")
        connection.execute("DROP TRIGGER entries_are_never_updated")
        connection.execute(
            "CREATE TRIGGER entries_are_never_updated BEFORE UPDATE ON entries BEGIN SELECT 1; END"
        )
    problems = verify(SqliteBooks(path), Evidence()).problems
    assert {problem.kind for problem in problems} == {"unguarded"}
    assert [problem.detail.split()[3] for problem in problems] == ["entries", "checkpoints"]
    with closing(SqliteLedger(path)) as ledger:
        # One that is missing is made anew by a node that starts.
        assert [problem.detail.split()[3] for problem in ledger.verify().problems] == ["entries"]
