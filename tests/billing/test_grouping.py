"""Threads that post at once: each is served in its turn, and none hears of another's error."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import cast

import pytest

from dsfn.billing.grouping import MAX_ROWS, Group
from dsfn.billing.posting import Posting
from dsfn.functions.errors import Conflict

WRITERS = 8
# A group hands rows on and looks at none.
GOOD, BAD = cast("Posting", "good"), cast("Posting", "bad")


class Store:
    """Keeps what is committed, one transaction an entry; each takes a while."""

    def __init__(self) -> None:
        self.commits: list[Sequence[Posting]] = []

    def commit(self, rows: Sequence[Posting]) -> None:
        time.sleep(0.001)
        if any(row is BAD for row in rows):
            raise Conflict("It is there already.")
        self.commits.append(rows)


def test_nobody_is_overtaken_by_one_that_came_later_again_and_again() -> None:
    store = Store()
    group = Group(Lock(), store.commit)

    def write(_: int) -> int:
        """The most transactions that this writer waited for."""
        most = 0
        for _ in range(25):
            before = len(store.commits)
            group.post([GOOD] * MAX_ROWS)  # there is no room for another's beside it
            most = max(most, len(store.commits) - before)
        return most

    with ThreadPoolExecutor(WRITERS) as threads:
        waited = list(threads.map(write, range(WRITERS)))
    assert len(store.commits) == WRITERS * 25
    assert max(waited) <= 2 * WRITERS


def test_those_who_wait_share_a_transaction() -> None:
    store, turn = Store(), Lock()
    group = Group(turn, store.commit)
    with ThreadPoolExecutor(WRITERS) as threads:
        with turn:
            posting = [threads.submit(group.post, [GOOD] * 10) for _ in range(WRITERS)]
            time.sleep(0.1)
        for each in posting:
            each.result(10)
    assert sum(map(len, store.commits)) == WRITERS * 10
    assert len(store.commits) <= 2


def test_rows_that_are_refused_are_their_own_writers_matter() -> None:
    store, turn = Store(), Lock()
    group = Group(turn, store.commit)
    with ThreadPoolExecutor(WRITERS) as threads:
        with turn:
            good = [threads.submit(group.post, [GOOD]) for _ in range(WRITERS - 1)]
            bad = threads.submit(group.post, [BAD])
            time.sleep(0.1)
        for each in good:
            each.result(10)
        with pytest.raises(Conflict):
            bad.result(10)
    assert sum(map(len, store.commits)) == WRITERS - 1
