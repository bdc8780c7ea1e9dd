"""Checkpoints of the ledger are signed, brought elsewhere, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from dsfn.billing.checkpoints import Checkpoint, read_checkpoint
from dsfn.billing.periods import DAY_US
from dsfn.billing.rates import Rate, RateCard, RateStore
from dsfn.billing.signing import SigningKey
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import StoreUnavailable, UsageError
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.config import Settings, load_settings
from dsfn.runtime.notary import notary as module
from dsfn.runtime.notary.checking import check_ledger
from dsfn.runtime.notary.depositor import Depositor, Progress
from dsfn.runtime.notary.notary import Notary
from dsfn.runtime.notary.places import DirectoryPlace, open_place
from dsfn.runtime.notary.settings import MAX_PLACES, PlaceSettings, read_places
from dsfn.runtime.writer import InlineWriter


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(tmp_path / "ledger.db")) as opened:
        yield opened


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.open(tmp_path / "ledger-key.pem")


@pytest.fixture
def safe(tmp_path: Path) -> Path:
    (tmp_path / "safe").mkdir()
    return tmp_path / "safe"


def post(ledger: SqliteLedger, count: int, start: int = 0) -> None:
    ledger.post(
        [
            Usage(f"i-{n}", "t", "", "f", "", "cpu", n, 1, 2, 0, "succeeded")
            for n in range(start, start + count)
        ]
    )


def eventually(holds: Callable[[], object], timeout_s: float = 20) -> None:
    ends_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ends_s, "it never came true"
        time.sleep(0.01)


def copies(safe: Path) -> list[Checkpoint]:
    return [read_checkpoint(path.read_text()) for path in sorted(safe.glob("checkpoint-*.json"))]


def running(ledger: SqliteLedger, key: SigningKey, tmp_path: Path, safe: Path) -> Notary:
    places = [open_place(PlaceSettings(safe.as_uri()))]
    return Notary(InlineWriter(), ledger, key, places, SystemClock(), tmp_path)


def test_a_checkpoint_comes_when_enough_rows_have_and_at_the_end(
    ledger: SqliteLedger,
    key: SigningKey,
    tmp_path: Path,
    safe: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    monkeypatch.setattr(module, "MAX_UNSIGNED_ROWS", 100)

    async def scenario() -> None:
        notary = running(ledger, key, tmp_path, safe)
        notary.start()
        post(ledger, 99)
        await asyncio.sleep(0.1)
        assert copies(safe) == []
        post(ledger, 1, start=99)
        await asyncio.to_thread(eventually, lambda: copies(safe))
        post(ledger, 1, start=100)
        await notary.close()

    asyncio.run(scenario())
    assert [checkpoint.heads[0][1].seq for checkpoint in copies(safe)] == [100, 101]
    assert all(checkpoint.is_signed() for checkpoint in copies(safe))


def test_a_checkpoint_comes_when_a_row_has_waited_long_enough(
    ledger: SqliteLedger,
    key: SigningKey,
    tmp_path: Path,
    safe: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    monkeypatch.setattr(module, "MAX_UNSIGNED_S", 0.2)

    async def scenario() -> None:
        notary = running(ledger, key, tmp_path, safe)
        notary.start()
        post(ledger, 1)
        await asyncio.to_thread(eventually, lambda: copies(safe))
        await asyncio.sleep(0.3)
        await notary.close()

    asyncio.run(scenario())
    assert len(copies(safe)) == 1


def test_a_row_that_was_changed_while_the_node_runs_is_said_to_be_once(
    ledger: SqliteLedger,
    key: SigningKey,
    tmp_path: Path,
    safe: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)

    async def scenario() -> int:
        notary = running(ledger, key, tmp_path, safe)
        notary.start()
        await asyncio.sleep(0.1)
        with closing(apsw.Connection(str(tmp_path / "ledger.db"))) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("DROP TRIGGER entries_are_never_updated")
            other.execute("COMMIT")
        post(ledger, 10)
        with closing(apsw.Connection(str(tmp_path / "ledger.db"))) as other:
            other.execute("UPDATE entries SET held_us = 3 WHERE seq = 10")
        post(ledger, 300, start=10)
        await asyncio.to_thread(eventually, lambda: notary.problems)
        await asyncio.sleep(0.1)
        await notary.close()
        return notary.problems

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(scenario()) == 1
    assert "The ledger is not what was posted: Row 1" in caplog.text


class Hindered:
    """A place that refuses, or hangs, until it is told not to."""

    name = "far away"

    def __init__(self) -> None:
        self.refuses = True
        self.hangs = threading.Event()
        self.hangs.set()
        self.tries = 0
        self.found: dict[int, str] = {}

    def put(self, number: int, text: str) -> None:
        self.tries += 1
        self.hangs.wait()
        if self.refuses:
            raise StoreUnavailable("It refuses.")
        self.found[number] = text

    def since(self, number: int, limit: int) -> list[tuple[int, str]]:
        raise StoreUnavailable("It refuses.")


def test_a_place_that_refuses_is_tried_again_until_it_has_every_checkpoint(
    ledger: SqliteLedger, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsfn.runtime.notary.depositor._FIRST_PAUSE_S", 0.01)
    for n in range(3):
        post(ledger, 1, start=n)
        ledger.checkpoint(key, n)
    place = Hindered()
    depositor = Depositor(place, ledger.checkpoints, Progress(tmp_path / "checkpoints.json"))
    depositor.start()
    eventually(lambda: place.tries > 2)
    place.refuses = False
    eventually(lambda: len(place.found) == 3)
    depositor.close(5)
    assert sorted(place.found) == [1, 2, 3]
    # What a place has is known at the next start.
    again = Depositor(place, ledger.checkpoints, Progress(tmp_path / "checkpoints.json"))
    tries = place.tries
    again.start()
    again.close(5)
    assert place.tries == tries


def test_a_place_that_hangs_holds_up_neither_rows_nor_the_end_of_the_node(
    ledger: SqliteLedger, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.1)
    place = Hindered()
    place.hangs.clear()

    async def scenario() -> None:
        notary = Notary(InlineWriter(), ledger, key, [place], SystemClock(), tmp_path)
        notary.start()
        post(ledger, 10)
        await notary.close()

    began_s = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - began_s < 5
    assert len(ledger.checkpoints(0, 10)) == 1
    place.refuses = False
    place.hangs.set()


def test_what_a_new_card_rounds_up_is_added_up_for_the_rows_that_are_there(
    ledger: SqliteLedger,
    key: SigningKey,
    tmp_path: Path,
    safe: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    monkeypatch.setattr(module, "BUILD_ROWS", 30)
    rates, in_tens = RateStore(ledger.cards(), RateCard(), 0), Rate(1, increment_us=10)

    def is_added_up(padding_us: int) -> bool:
        with closing(apsw.Connection(str(tmp_path / "ledger.db"))) as connection:
            kept = connection.execute("SELECT card, padding_us FROM paddings").fetchall()
        return kept == [(2, padding_us)]

    async def scenario() -> None:
        notary = running(ledger, key, tmp_path, safe)
        notary.start()
        post(ledger, 100)
        card = RateCard(devices={"cpu": in_tens}, effective_from_us=1)
        rates.add(card, 1)
        ledger.post([Usage("day-1", "t", "", "f", "", "cpu", DAY_US, 1, 2, 0, "succeeded")])
        await asyncio.to_thread(eventually, lambda: is_added_up(8))
        ledger.post([Usage("day-1b", "t", "", "f", "", "cpu", DAY_US, 1, 2, 0, "succeeded")])
        assert is_added_up(16)
        await notary.close()

    asyncio.run(scenario())


def test_a_directory_that_is_not_mounted_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    place = DirectoryPlace("file:///safe", tmp_path / "safe")
    with pytest.raises(StoreUnavailable, match="file:///safe cannot be used: No such file"):
        place.put(1, "x")
    with pytest.raises(StoreUnavailable):
        place.since(1, 10)


def test_a_checkpoint_in_a_directory_is_never_written_over(safe: Path) -> None:
    place = DirectoryPlace("file:///safe", safe)
    place.put(7, "first")
    place.put(7, "second")
    place.put(8, "third")
    assert list(place.since(0, 10)) == [(7, "first"), (8, "third")]
    assert list(place.since(8, 10)) == [(8, "third")]
    assert len(list(safe.iterdir())) == 2


def test_the_check_compares_with_what_is_kept_elsewhere(
    ledger: SqliteLedger, key: SigningKey, tmp_path: Path, safe: Path
) -> None:
    async def scenario() -> None:
        notary = running(ledger, key, tmp_path, safe)
        notary.start()
        for n in range(3):
            post(ledger, 5, start=5 * n)
            ledger.checkpoint(key, n)
        await notary.close()

    asyncio.run(scenario())
    assert len(copies(safe)) == 3
    place = read_places([safe.as_uri()])
    settings = Settings(data_dir=tmp_path, checkpoints=place)
    assert check_ledger(settings).ok
    older = tmp_path / "older"
    older.mkdir()
    shutil.copy(tmp_path / "ledger-key.pem", older)
    # A ledger with fewer rows, and everything about it right, such as an older copy of it.
    with closing(SqliteLedger(older / "ledger.db")) as copy:
        post(copy, 5)
        first = copies(safe)[0]
        copy._connection.execute(
            "INSERT INTO checkpoints VALUES (?, ?)", (first.number, first.to_text())
        )
    found = check_ledger(Settings(data_dir=older, checkpoints=place))
    assert {(problem.row, problem.kind) for problem in found.problems} == {
        (None, "checkpoint"),
        (6, "cut off"),
    }


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("file:///x", "must be a list"),
        (["http://x"], "neither file:///DIRECTORY nor s3://BUCKET"),
        (["file://x"], "neither file:///DIRECTORY nor s3://BUCKET"),
        ([7], "a place is a text"),
        ([{"endpoint_url": "x"}], "a place is a text"),
        ([{"store": "s3://bucket", "speed": "x"}], "speed is not a setting"),
        ([{"store": "s3://bucket", "region": 7}], "region is not a setting"),
        (["file:///x", "file:///x"], "names a place twice"),
        ([f"file:///{n}" for n in range(MAX_PLACES + 1)], f"at most {MAX_PLACES} places"),
    ],
)
def test_places_that_make_no_sense_keep_the_node_from_starting(value: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_places(value)


def test_places_are_read_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[billing]\ncheckpoints = ["file:///safe",'
        ' {store = "s3://bucket/books", endpoint_url = "http://127.0.0.1:1"}]\n'
    )
    settings = load_settings(data_dir=tmp_path)
    assert settings.checkpoints == (
        PlaceSettings("file:///safe"),
        PlaceSettings("s3://bucket/books", "http://127.0.0.1:1"),
    )
    assert "checkpoints" not in settings.billing


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger-key.pem"
    first, second = SigningKey.open(path), SigningKey.open(path)
    assert first.public_key == second.public_key
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("no key")
    with pytest.raises(UsageError, match="is not a private key in PEM"):
        SigningKey.open(path)


@pytest.mark.parametrize(
    "text",
    ["", "7", "[]", "{}", '{"version":2}', "[" * 100_000, json.dumps({"version": 1, "heads": 7})],
    ids=range(7),
)
def test_what_is_no_checkpoint_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(ValueError):
        read_checkpoint(text)
