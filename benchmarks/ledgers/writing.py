"""How fast rows are posted: several writers at once, each with batches made before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.harness import Spread
from benchmarks.ledgers.calls import batches
from benchmarks.ledgers.stores import (
    KEEPS,
    Place,
    Poster,
    Store,
    open_ledger,
    open_plain,
)
from dsfn.billing.usage import Usage

# A row by itself takes many times as long, so that a tenth of them is as many commits and more.
_SINGLE_SHARE = 10


@dataclass(frozen=True, slots=True)
class Written:
    """What `writers` threads reached. `commit_ms`: from a writer's request until its rows are
    committed, waiting for its turn included."""

    store: str
    what: str
    keeps: str
    writers: int
    batch: int
    rows: int
    rows_per_s: float
    commit_ms: Spread
    part: str = "write"


def write(
    place: Place,
    stores: Sequence[Store],
    writers: Sequence[int],
    sizes: Sequence[int],
    rows: int,
) -> Iterator[Written]:
    """Each case over a database of its own, the ledger's right before the plain table's."""
    for store in stores:
        for size in sizes:
            for count in writers:
                calls = max(rows // _SINGLE_SHARE if size == 1 else rows, size * count)
                parts = [list(batches(calls, size, part, count)) for part in range(count)]
                for what in ("ledger", "plain"):
                    yield _case(place, store, what, size, parts)


def post_all(poster: Poster, parts: Sequence[Iterator[Sequence[Usage]]]) -> list[list[float]]:
    """Posts each part in a thread of its own: how long each batch took, in seconds."""
    start = threading.Barrier(len(parts))

    def post(part: Iterator[Sequence[Usage]]) -> list[float]:
        start.wait()
        return [_timed(poster, batch) for batch in part]

    with ThreadPoolExecutor(len(parts)) as threads:
        return list(threads.map(post, parts))


def _case(
    place: Place, store: Store, what: str, size: int, parts: Sequence[Sequence[Sequence[Usage]]]
) -> Written:
    writers = len(parts)
    address = place.make(store, f"write-{what}-{size}-{writers}")
    opened = open_ledger if what == "ledger" else open_plain
    with opened(address, writers) as poster:
        began_s = time.perf_counter()
        commits = post_all(poster, [iter(part) for part in parts])
        took_s = time.perf_counter() - began_s
    place.drop(address)
    rows = sum(len(batch) for part in parts for batch in part)
    commit_ms = Spread.of([each_s * 1e3 for part in commits for each_s in part])
    return Written(
        *(store, what, KEEPS[store], writers, size, rows), round(rows / took_s), commit_ms
    )


def _timed(poster: Poster, batch: Sequence[Usage]) -> float:
    began_s = time.perf_counter()
    poster.post(batch)
    return time.perf_counter() - began_s
