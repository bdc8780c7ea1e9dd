"""How soon rows are posted again after whoever posted them was killed in the middle of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.harness import ROOT, Spread
from benchmarks.ledgers.stores import Place, Store
from benchmarks.processes import kill

# It posts without a pause, so that nearly all of its time is in a transaction.
_KILL_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class Recovered:
    """From a process's start until its first row is committed, Python's own start included:
    `fresh` over an empty ledger, `after_kill` over one whose writer was killed."""

    store: str
    fresh_s: Spread
    after_kill_s: Spread
    part: str = "recover"


def recover(place: Place, store: Store, rounds: int) -> Recovered:
    """Kills a writer several times over the same ledger, which grows. Raises `RuntimeError` when
    a row that it had committed is gone."""
    address = place.make(store, f"{store}-killed")
    fresh_s, after_kill_s = [], []
    for number in range(rounds):
        empty = place.make(store, f"{store}-fresh-{number}")
        fresh_s.append(_until_first(empty, ""))
        place.drop(empty)
        after_kill_s.append(_until_first(address, _killed(address)))
    place.drop(address)
    return Recovered(store, Spread.of(fresh_s), Spread.of(after_kill_s))


def _killed(address: str) -> str:
    """Kills a writer: the id of a row that it had committed."""
    with _writer(address) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(_KILL_AFTER_S)
        kill(writer)
        # The last one may be half a line.
        *_, committed, _ = writer.stdout.read().decode().split("\n")
    return committed


def _until_first(address: str, before: str) -> float:
    """Seconds from a writer's start until it has committed a row. `before` must be there, too."""
    began_s = time.perf_counter()
    with _writer(address, before) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        took_s = time.perf_counter() - began_s
    if not first:
        raise RuntimeError(f"No row was posted to {address}.")
    if writer.returncode != 0:
        raise RuntimeError("A row that was committed is not there after kill -9.")
    return took_s


@contextmanager
def _writer(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = (sys.executable, "-m", "benchmarks.ledgers.writer", *arguments)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        yield process
