"""A month is closed whole or not at all, whenever the process is killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from month_books import close_month, open_months

from dsfn.billing.rates import RateBook, RateCard
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage

TENANTS = 40
CYCLES = 20
BOOK = RateBook.of(RateCard())
CLOSER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from month_books import close_month, open_months
from dsfn.billing.rates import RateBook, RateCard

with open_months(Path(sys.argv[1]), RateBook.of(RateCard())) as months:
    print("open", flush=True)
    close_month(months, sys.argv[3])
    print("closed", flush=True)
    sys.stdin.read()
"""


def _post(directory: Path, month: str) -> None:
    """A call of every tenant in a month."""
    ledger = SqliteLedger(directory / "ledger.db")
    start_us = 1_793_600_000_000_000
    ledger.post(
        [
            Usage(
                f"{month}-{n}", f"t{n:02}", "", "echo", "r", "cpu", start_us, 1, 10**9, 0, "failed"
            )
            for n in range(TENANTS)
        ]
    )
    ledger.close()


def test_a_month_is_closed_whole_or_not_at_all_after_kill_9(tmp_path: Path) -> None:
    chance = random.Random(20261127)
    _post(tmp_path, "2026-11")
    most_s = 1.3 * _close_until_killed(tmp_path, None)[1]
    whole = 0
    for cycle in range(CYCLES):
        directory = tmp_path / str(cycle)
        directory.mkdir()
        _post(directory, "2026-11")
        closed = _close_until_killed(directory, chance.uniform(0, most_s))[0]
        with open_months(directory, BOOK) as months:
            found = months.ledger.documents.all("2026-11")
            assert len(found) in (0, TENANTS)
            assert (months.ledger.closed_until_us > 0) == bool(found)
            if closed:
                assert found
            whole += bool(found)
            # The machine may have more to do by now: some are to be closed when they are killed.
            most_s *= 1 if found else 1.1
            again = close_month(months, "2026-11")
            assert [each.number[-4:] for each in again] == [f"{n + 1:04}" for n in range(TENANTS)]
            if found:
                assert again == found
            assert all(months.verify(each.number).problems == () for each in again[::13])
            balances = [months.ledger.balance(f"receivable/t{n:02}", "nano:USD") for n in range(3)]
            assert balances == [each.total_minor * 10**7 for each in again[:3]]
    assert 0 < whole < CYCLES


def _close_until_killed(directory: Path, after_s: float | None) -> tuple[bool, float]:
    """Whether a process had said that the month was closed when it was killed, and after how
    long; without a time it is killed when it has said so."""
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", CLOSER, str(directory), here, "2026-11"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "open\n"
    started_s = time.monotonic()
    closed = after_s is None and process.stdout.readline() == "closed\n"
    time.sleep(after_s or 0)
    took_s = time.monotonic() - started_s
    process.kill()
    closed = process.stdout.read() == "closed\n" or closed
    process.stdout.close()
    process.stdin.close()
    process.wait()
    return closed, took_s
