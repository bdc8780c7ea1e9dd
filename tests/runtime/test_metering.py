from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from no_leases import meter_of

from dsfn.billing.posting import Posting
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict
from dsfn.runtime.writer import ThreadWriter


def row(number: int, key: str = "") -> Usage:
    return Usage(
        invocation_id=f"call-{number}",
        tenant="default",
        caller="",
        function="f",
        revision="f-1",
        device_class="cpu",
        started_at_us=1,
        busy_us=1,
        held_us=1,
        restore_us=0,
        status="succeeded",
        idempotency_key=key,
    )


def test_rows_that_come_up_together_are_all_in_the_ledger_when_their_posts_return(
    tmp_path: Path,
) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")

    async def post_many() -> None:
        meter = meter_of(ledger)
        await asyncio.gather(*(meter.post(row(n)) for n in range(100)))

    asyncio.run(post_many())
    found = {usage.invocation_id for usage in ledger.between(0, 10)}
    ledger.close()
    assert found == {f"call-{n}" for n in range(100)}


def test_a_row_that_is_refused_does_not_take_its_group_with_it(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")

    async def post_with_conflict() -> list[object]:
        meter = meter_of(ledger)
        await meter.post(row(0, key="k"))
        rows = [row(1), row(2, key="k"), row(3)]
        return await asyncio.gather(*(meter.post(r) for r in rows), return_exceptions=True)

    outcomes = asyncio.run(post_with_conflict())
    found = {usage.invocation_id for usage in ledger.between(0, 10)}
    ledger.close()
    assert isinstance(outcomes[1], Conflict)
    assert found == {"call-0", "call-1", "call-3"}


def test_a_caller_that_goes_away_does_not_undo_its_row(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")

    async def post_and_leave() -> None:
        meter = meter_of(ledger)
        task = asyncio.create_task(meter.post(row(1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(post_and_leave())
    found = [usage.invocation_id for usage in ledger.between(0, 10)]
    ledger.close()
    assert found == ["call-1"]


class SlowLedger(SqliteLedger):
    """Takes rows once a test lets it; counts its commits."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.may_go_on = threading.Event()
        self.commits: list[int] = []

    def post(self, rows: Sequence[Posting]) -> None:
        assert self.may_go_on.wait(10)
        self.commits.append(len(rows))
        super().post(rows)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SlowLedger]:
    ledger = SlowLedger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def test_while_the_ledger_hangs_the_event_loop_goes_on_and_rows_gather_for_one_commit(
    ledger: SlowLedger,
) -> None:
    async def main() -> None:
        meter = meter_of(ledger, writer=ThreadWriter())
        posts = [asyncio.create_task(meter.post(row(0)))]
        await asyncio.sleep(0.01)
        for number in range(1, 50):
            posts.append(asyncio.create_task(meter.post(row(number))))
            await asyncio.sleep(0)
        flushed = meter.flush()
        assert not flushed.done() and not any(post.done() for post in posts)
        ledger.may_go_on.set()
        await flushed
        await asyncio.gather(*posts)
        assert ledger.commits == [1, 49]
        await meter.close()
        await meter.writer.close()

    asyncio.run(main())
    assert len(list(ledger.between(0, 10))) == 50


def test_what_came_of_work_is_told_in_its_order_and_errors_are_raised() -> None:
    async def main() -> None:
        writer, told = ThreadWriter(), list[int]()
        for number in range(100):
            writer.submit(partial(int, number), told.append)
        with pytest.raises(ZeroDivisionError):
            await writer.run(lambda: 1 // 0)
        await asyncio.sleep(0)
        assert told == list(range(100))
        await writer.close()

    asyncio.run(main())


def test_a_row_that_is_refused_in_the_thread_fails_alone(ledger: SlowLedger) -> None:
    async def main() -> None:
        ledger.may_go_on.set()
        meter = meter_of(ledger, writer=ThreadWriter())
        await meter.post(row(0, key="k"))
        posts = (meter.post(row(1)), meter.post(row(2, key="k")), meter.post(row(3)))
        outcomes = await asyncio.gather(*posts, return_exceptions=True)
        assert [type(each) for each in outcomes] == [type(None), Conflict, type(None)]
        await meter.writer.close()

    asyncio.run(main())
