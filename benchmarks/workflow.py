"""What durable workflows cost, against other engines: steps that do nothing.

    python -m benchmarks.workflow [--systems dsfn,temporal] [--seconds 1.5] [--resume 10000] ...

Each system runs alone, with its client. It runs chains and fan-outs one at a time, then keeps
many chains of ten under way. Those that go on with interrupted runs by themselves are killed
with runs under way and started again. All answers are checked.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from subprocess import SubprocessError

from benchmarks.harness import Machine, console, save, several
from benchmarks.workflows.cases import Case
from benchmarks.workflows.rows import ResumedRow, Row, aims, show_all
from benchmarks.workflows.running import Failed, Found, Resumed, measure, resume
from benchmarks.workflows.systems import SYSTEMS, System

CHAINS = (1, 10, 100)
FANS = (1, 10, 100, 1000)
UNDER_WAY = (100,)
# Others begin less than a hundred runs a second, and take longer to go on with them.
RESUME, RESUME_PEERS = 10_000, 200
BREAKDOWNS = (Failed, OSError, RuntimeError, SubprocessError)


def main() -> None:
    """Measures, prints and saves."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    options = _options()
    machine = Machine.this()
    console.print(machine.sentence())
    systems = [SYSTEMS[name] for name in options.systems if _is_there(SYSTEMS[name])]
    found: dict[tuple[str, Case], list[Found]] = {}
    for number in range(options.rounds):
        for system in systems:
            console.print(f"round {number + 1}: {system.name}")
            for each in _measure(system, _cases(options), options.seconds):
                found.setdefault((system.name, each.case), []).append(each)
    rows = [Row.of(SYSTEMS[name], case, several) for (name, case), several in found.items()]
    resumed = [*_resume_all(systems, options.resume, options.resume_peers)]
    show_all(rows, resumed)
    settings = {**vars(options), "aims": [asdict(aim) for aim in aims(rows)]}
    path = settings.pop("output")
    console.print(f"Written to {save('workflow', machine, settings, [*rows, *resumed], path)}")


def _is_there(system: System) -> bool:
    missing = system.missing()
    if missing:
        console.print(f"{system.name} is left out: there is no {missing} on the PATH")
    return not missing


def _cases(options: argparse.Namespace) -> list[Case]:
    return [
        *(Case("chain", size) for size in options.chains),
        *(Case("fan", size) for size in options.fans),
        *(Case("load", size) for size in options.under_way),
    ]


def _measure(system: System, cases: Sequence[Case], seconds: float) -> Iterator[Found]:
    """Of a system that breaks down the cases that are left have failed."""
    left = list(cases)
    try:
        for found in measure(system, cases, seconds):
            left.remove(found.case)
            yield found
    except BREAKDOWNS as error:
        console.print(f"{system.name} failed: {error}", markup=False)
        yield from (Found(case, failed=str(error)) for case in left)


def _resume_all(systems: Sequence[System], runs: int, runs_of_peers: int) -> Iterator[ResumedRow]:
    for system in systems:
        count = runs if system.name == "dsfn" else runs_of_peers
        if not system.resumes or not count:
            continue
        console.print(f"{count:,} interrupted runs: {system.name}")
        try:
            resumed = resume(system, count)
        except BREAKDOWNS as error:
            resumed = Resumed(count, failed=str(error))
        yield ResumedRow(system.name, resumed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each case")
    parser.add_argument("--systems", type=several(SYSTEMS), default=tuple(SYSTEMS))
    parser.add_argument("--chains", type=_numbers, default=CHAINS)
    parser.add_argument("--fans", type=_numbers, default=FANS)
    parser.add_argument("--under-way", type=_numbers, default=UNDER_WAY)
    parser.add_argument("--resume", type=int, default=RESUME, help="runs of dsfn")
    parser.add_argument("--resume-peers", type=int, default=RESUME_PEERS, help="of the others")
    parser.add_argument("--output", type=Path, help="a file in place of benchmarks/results/...")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


if __name__ == "__main__":
    main()
