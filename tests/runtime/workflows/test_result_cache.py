"""Results of steps that are used again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from dsfn.billing.sqlite import connect, transaction
from dsfn.runtime.events.stored import request_digest
from dsfn.runtime.workflows.cache import KEEP_CACHED_S, ResultCache, blobs_of_cached_results
from dsfn.runtime.workflows.model import Blob

DAY_US = 24 * 3600 * 1_000_000
DIGEST = request_digest("application/json", b'{"x":1}')
SMALL = Blob("application/json", 2, b"42")
REF = f"blob:sha256:{'ab' * 32}"
LARGE = Blob("image/png", 1 << 20, None, REF, "a.png")


class Days:
    """A clock that a test moves by days."""

    def __init__(self) -> None:
        self.at_us = 1000 * DAY_US

    def now_us(self) -> int:
        return self.at_us

    def monotonic_ns(self) -> int:
        return self.at_us * 1000

    def pass_(self, days: float) -> None:
        self.at_us += int(days * DAY_US)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    opened = connect(tmp_path / "node.db", "")
    yield opened
    opened.close()


def test_a_result_comes_back_for_the_same_revision_and_input_alone(
    connection: apsw.Connection,
) -> None:
    results = ResultCache(connection, Days())
    results.put("tag-0000000001", DIGEST, SMALL)
    results.put("tag-0000000002", DIGEST, LARGE)
    assert results.get("tag-0000000001", DIGEST) == SMALL
    assert results.get("tag-0000000002", DIGEST) == LARGE
    assert results.get("tag-0000000003", DIGEST) is None
    assert results.get("tag-0000000001", request_digest("text/plain", b'{"x":1}')) is None


def test_of_two_results_the_first_stays(connection: apsw.Connection) -> None:
    results = ResultCache(connection, Days())
    results.put("tag-0000000001", DIGEST, SMALL)
    results.put("tag-0000000001", DIGEST, LARGE)
    assert results.get("tag-0000000001", DIGEST) == SMALL


def test_a_result_goes_with_the_transaction_that_it_belongs_to(
    connection: apsw.Connection,
) -> None:
    results = ResultCache(connection, Days())
    with pytest.raises(ZeroDivisionError), transaction(connection):
        results.put("tag-0000000001", DIGEST, SMALL)
        raise ZeroDivisionError
    assert results.get("tag-0000000001", DIGEST) is None


def test_results_outlive_the_node_and_tell_the_blobs_that_they_need(tmp_path: Path) -> None:
    first = connect(tmp_path / "node.db", "")
    ResultCache(first, Days()).put("tag-0000000001", DIGEST, LARGE)
    first.close()
    second = connect(tmp_path / "node.db", "")
    assert ResultCache(second, Days()).get("tag-0000000001", DIGEST) == LARGE
    assert list(blobs_of_cached_results(second)) == [REF]
    second.close()


def test_results_are_kept_thirty_days(connection: apsw.Connection) -> None:
    clock = Days()
    results = ResultCache(connection, clock)
    results.put("tag-0000000001", DIGEST, LARGE)
    clock.pass_(29)
    results.put("tag-0000000002", DIGEST, SMALL)
    assert results.prune() == 0
    clock.pass_(2)
    assert KEEP_CACHED_S == 30 * 24 * 3600
    assert (results.prune(), results.prune()) == (1, 0)
    assert results.get("tag-0000000001", DIGEST) is None
    assert results.get("tag-0000000002", DIGEST) == SMALL
    assert list(blobs_of_cached_results(connection)) == []


def test_of_too_many_results_the_oldest_go(connection: apsw.Connection) -> None:
    clock = Days()
    results = ResultCache(connection, clock, max_cached=3)
    for number in range(5):
        results.put("tag-0000000001", bytes([number]), SMALL)
        clock.pass_(0.01)
    assert results.prune() == 2
    kept = [number for number in range(5) if results.get("tag-0000000001", bytes([number]))]
    assert kept == [2, 3, 4]
