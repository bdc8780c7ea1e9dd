from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from no_leases import no_leases

from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict
from dsfn.runtime.metering import Meter


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
        meter = Meter(ledger, no_leases())
        await asyncio.gather(*(meter.post(row(n)) for n in range(100)))

    asyncio.run(post_many())
    found = {usage.invocation_id for usage in ledger.between(0, 10)}
    ledger.close()
    assert found == {f"call-{n}" for n in range(100)}


def test_a_row_that_is_refused_does_not_take_its_group_with_it(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")

    async def post_with_conflict() -> list[object]:
        meter = Meter(ledger, no_leases())
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
        meter = Meter(ledger, no_leases())
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
