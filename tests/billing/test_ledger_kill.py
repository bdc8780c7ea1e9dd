"""The ledger survives `kill -9` at any instant."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from dsfn.billing.sqlite import CHECKPOINT_EVERY_S
from dsfn.billing.sqlite_ledger import SqliteLedger

POSTER = """
import sys
from pathlib import Path
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage

run, path = sys.argv[1], Path(sys.argv[2])
ledger = SqliteLedger(path)
print("open", flush=True)
n = 0
while True:
    size = 1 + n % 5
    rows = [
        Usage(f"{run}-{n + i}", "default", "", "echo", "echo-1", "cpu", n, 1, 2, 0, "succeeded")
        for i in range(size)
    ]
    ledger.post(rows)
    n += size
    print(n, flush=True)
"""


def test_every_reported_row_is_there_once_after_kill_9(tmp_path: Path) -> None:
    path, chance = tmp_path / "ledger.db", random.Random(20261122)
    # The last two are killed about when the checkpoint thread is at work.
    instants = [chance.uniform(0, 0.05) for _ in range(18)]
    instants += [CHECKPOINT_EVERY_S + chance.uniform(0, 0.05) for _ in range(2)]
    reported = {
        str(run): _post_until_killed(path, str(run), after_s)
        for run, after_s in enumerate(instants)
    }
    ledger = SqliteLedger(path)
    found = [row.invocation_id for row in ledger.between(0, 2**62)]
    ledger.close()
    assert len(found) == len(set(found))
    expected = {f"{run}-{n}" for run, count in reported.items() for n in range(count)}
    assert len(expected) > 20
    assert expected <= set(found)
    # At most the batch that was being posted is there beside what was reported.
    assert len(found) <= len(expected) + len(reported) * 5


def _post_until_killed(path: Path, run: str, after_s: float) -> int:
    """How many rows a process had reported as posted when it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", POSTER, run, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    time.sleep(after_s)
    process.kill()
    lines = process.stdout.read().split("\n")[:-1]
    process.stdout.close()
    process.wait()
    return int(lines[-1]) if lines else 0
