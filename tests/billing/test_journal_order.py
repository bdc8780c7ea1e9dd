"""The journal in its order, which is how receivers of usage get it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dsfn.billing.interval import Interval
from dsfn.billing.ledger import Ledger
from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.usage import Usage

MakeUsage = Callable[..., Usage]


def read_on(ledger: Ledger, places: dict[int, int], limit: int = 100) -> list[str]:
    """The ids of the calls after those places, which are moved on."""
    found: list[str] = []
    for chain, head in ledger.heads().items():
        while places.setdefault(chain, 0) < head:
            rows = ledger.calls_in(chain, places[chain], head, limit)
            found += [entry.id for _, entry in rows]
            places[chain] = rows[-1][0] if len(rows) == limit else head
    return found


def test_an_empty_ledger_has_no_heads(ledger: Ledger) -> None:
    assert ledger.heads() == {}
    assert ledger.calls_in(0, 0, 10, 10) == []


def test_calls_come_in_the_order_of_posting_and_each_once(
    ledger: Ledger, make_usage: MakeUsage
) -> None:
    places: dict[int, int] = {}
    idle = Interval("idle", "l/1", "l", "cpu", 1, "cpu", "f", "r", "", 5, 5, "idle")
    ledger.post([make_usage(invocation_id="b"), idle, make_usage(invocation_id="a")])
    assert read_on(ledger, places, limit=1) == ["b", "a"]
    assert read_on(ledger, places) == []
    ledger.post([make_usage(invocation_id="c", started_at_us=1)])
    assert read_on(ledger, places) == ["c"]


def test_whatever_is_posted_to_several_chains_at_once_is_read_while_it_comes(
    postgres_ledger: PostgresLedger, make_usage: MakeUsage
) -> None:
    places: dict[int, int] = {}
    found: list[str] = []
    with ThreadPoolExecutor(4) as threads:
        posts = [
            threads.submit(postgres_ledger.post, [make_usage(invocation_id=f"{n}-{m}")])
            for n in range(4)
            for m in range(20)
        ]
        while not all(post.done() for post in posts):
            found += read_on(postgres_ledger, places, limit=3)
    found += read_on(postgres_ledger, places)
    assert sorted(found) == sorted(f"{n}-{m}" for n in range(4) for m in range(20))
    assert len(postgres_ledger.heads()) > 1
