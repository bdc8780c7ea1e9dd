"""Kills a process that posts to a ledger, through its spool, at any instant, again and again.

    PYTHONPATH=. python tests/billing/kill_loop.py --cycles 1000 --save

What was reported as posted must be there, each row once; at most the batch that was being
posted may be there beside it; and the check of the ledger must find nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness import Machine, save
from dsfn.billing import sqlite
from dsfn.billing.interval import Interval
from dsfn.billing.posting_document import Spooled
from dsfn.billing.reservation import Reservation
from dsfn.billing.signing import SigningKey
from dsfn.billing.spool import Spool
from dsfn.billing.spooled_ledger import SpooledLedger
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage

SEED = 20261122
CHECK_EVERY = 50
LARGEST_BATCH = 5
# All other steps only come to the spool before they are reported.
POST_EVERY = 5
# Of a life: it ends so many steps and then so long after it begins, on a busy machine, too.
MOST_STEPS = 12
LONGEST_PAUSE_S = 0.005
# Of lives as short as that: most processes are killed about when the checkpoint thread is at work.
CHECKPOINT_EVERY_S = 0.01
T0 = 1_790_000_000_000_000
_STEPS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Result:
    """`lost` and `doubled` rows, and problems that the check found: all must be 0. `surplus`:
    rows that were posted and not reported any more, of one batch for each run at most."""

    cycles: int
    rows: int
    reported: int
    lost: int
    doubled: int
    surplus: int
    problems: int
    recovery_ms_max: float


def batches(run: int) -> Iterator[list[Spooled]]:
    """What a run posts, step by step: calls of a lease, with money set aside and given back."""
    for step in range(_STEPS_AT_ONCE):
        size = 1 + step % LARGEST_BATCH
        names = [f"{run}-{step}-{n}" for n in range(size)]
        rows: list[Spooled] = [
            Usage(name, "t", "", "f", "", "cpu", T0 + step, 1, 2, 0, "succeeded", lease=f"l-{run}")
            for name in names
        ]
        rows += [Reservation("reserve", name, "t", "", "USD", 5, T0) for name in names]
        if step % 2:
            rows += [Reservation("post", name, "t", "", "USD", 5, T0) for name in names]
        idle = f"l-{run}/{step}"
        rows.append(Interval("idle", idle, f"l-{run}", "cpu", 1, "cpu", "f", "", "", T0 + step, 3))
        yield rows


def opened(path: Path) -> SpooledLedger:
    """A ledger with its spool, as a node opens it."""
    return SpooledLedger(SqliteLedger(path), Spool(path.parent, sync=False))


def post_without_end(path: Path, run: int, pipe: int) -> None:
    """Posts, and reports the number of each step through a pipe once it is posted."""
    sqlite.CHECKPOINT_EVERY_S = CHECKPOINT_EVERY_S
    ledger = opened(path)
    ledger.close_leases()
    key = SigningKey.open(path.with_name("ledger-key.pem"))
    os.write(pipe, b"open\n")
    for step, rows in enumerate(batches(run)):
        post = ledger.post if step % POST_EVERY == 0 else ledger.post_soon
        post(rows)
        if step % 7 == 0:
            # What was not heard of is posted again.
            ledger.post_soon(rows)
        if step % 3 == 0:
            ledger.post_share()
        if step % 11 == 0:
            ledger.checkpoint(key, T0)
        os.write(pipe, b"%d\n" % step)


def kill_loop(path: Path, cycles: int, seed: int = SEED) -> Result:
    """Kills so many processes and looks at what is left."""
    chance, steps, recovery_s, problems = random.Random(seed), {}, [], 0
    for run in range(cycles):
        started_s = time.perf_counter()
        child, reading = _start(path, run)
        with os.fdopen(reading, encoding="ascii") as reports:
            assert reports.readline() == "open\n", "the ledger could not be opened"
            recovery_s.append(time.perf_counter() - started_s)
            steps[run] = chance.randint(0, MOST_STEPS)
            for _ in range(steps[run]):
                reports.readline()
            time.sleep(chance.uniform(0, LONGEST_PAUSE_S))
            os.kill(child, signal.SIGKILL)
            steps[run] += reports.read().count("\n")
        os.waitpid(child, 0)
        if run % CHECK_EVERY == CHECK_EVERY - 1 or run == cycles - 1:
            problems += _problems(path)
    return _result(path, steps, problems, max(recovery_s))


def _start(path: Path, run: int) -> tuple[int, int]:
    """A process that posts, and where it reports."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            post_without_end(path, run, writing)
        finally:
            os._exit(1)
    os.close(writing)
    return child, reading


def _problems(path: Path) -> int:
    """What the next start and the check find, leases of killed runs being closed by then."""
    with closing(opened(path)) as ledger:
        ledger.close_leases()
        found = ledger.verify()
    for problem in found.problems:
        sys.stderr.write(f"{problem}\n")
    return len(found.problems)


def _result(path: Path, steps: dict[int, int], problems: int, recovery_s: float) -> Result:
    with closing(opened(path)) as ledger:
        found = [row.invocation_id for row in ledger.between(0, 2**62)]
    expected = {
        row.invocation_id
        for run, count in steps.items()
        for _, rows in zip(range(count), batches(run), strict=False)
        for row in rows
        if isinstance(row, Usage)
    }
    return Result(
        cycles=len(steps),
        rows=len(found),
        reported=len(expected),
        lost=len(expected - set(found)),
        doubled=len(found) - len(set(found)),
        surplus=len(set(found) - expected),
        problems=problems,
        recovery_ms_max=round(recovery_s * 1000, 1),
    )


def in_process(cycles: int) -> Result:
    """The loop in a process of its own, which has no threads and may be copied."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1) as pool, tempfile.TemporaryDirectory() as place:
        return pool.apply(kill_loop, (Path(place) / "ledger.db", cycles))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--save", action="store_true", help="in benchmarks/results, too")
    arguments = parser.parse_args()
    machine = Machine.this()
    with tempfile.TemporaryDirectory() as place:
        result = kill_loop(Path(place) / "ledger.db", arguments.cycles)
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
    if arguments.save:
        save("ledger_kill_loop", machine, {"seed": SEED, "check_every": CHECK_EVERY}, [result])
    return 1 if result.lost or result.doubled or result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
