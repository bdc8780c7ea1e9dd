"""Requests per second and latency of warm functions, against other servers.

    python -m benchmarks.serve [--rounds 3] [--seconds 5] [--systems dsfn,litserve] ...

Each round starts each system in turn, one at a time, checks that its answers are right,
warms it up and loads it with each number of clients. What is said of a system is the
median over the rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.harness import Machine, Spread, console, numbers, save, several, show
from benchmarks.systems import SYSTEMS, WORKLOADS, Workload, serving
from benchmarks.wrk import Load, load

CLIENTS = (1, 4, 16, 64)
WARM_UP_CLIENTS = 8


@dataclass(frozen=True, slots=True)
class Case:
    """What one figure is of."""

    workload: Workload
    clients: int
    system: str


@dataclass(frozen=True, slots=True)
class Row:
    """A case's figures over all rounds."""

    case: Case
    requests_per_s: Spread
    p50_ms: Spread
    p99_ms: Spread
    failed: int


def main() -> None:
    """Measures, prints and saves."""
    options = _options()
    machine = Machine.this()
    console.print(machine.sentence())
    loads: dict[Case, list[Load]] = {}
    for number in range(options.rounds):
        for workload in options.workloads:
            for system in options.systems:
                console.print(f"round {number + 1}: {workload}, {system}")
                for case, one in _measure(system, workload, options.clients, options.seconds):
                    loads.setdefault(case, []).append(one)
    rows = [_row(case, several) for case, several in loads.items()]
    for workload in options.workloads:
        _show(workload, [row for row in rows if row.case.workload == workload])
    console.print(f"Written to {save('serve', machine, vars(options), rows)}")


def _measure(
    system: str, workload: Workload, clients: Sequence[int], seconds: int
) -> Iterable[tuple[Case, Load]]:
    with serving(system, workload) as target:
        load(target, WARM_UP_CLIENTS, 2)
        for number in clients:
            yield Case(workload, number, system), load(target, number, seconds)


def _row(case: Case, loads: Sequence[Load]) -> Row:
    return Row(
        case,
        requests_per_s=Spread.of([one.requests_per_s for one in loads]),
        p50_ms=Spread.of([one.p50_ms for one in loads]),
        p99_ms=Spread.of([one.p99_ms for one in loads]),
        failed=sum(one.failed for one in loads),
    )


def _show(workload: Workload, rows: Sequence[Row]) -> None:
    by_clients: Mapping[int, list[Row]] = {row.case.clients: [] for row in rows}
    for row in rows:
        by_clients[row.case.clients].append(row)
    columns = ("system", "clients", "requests/s", "least", "most", "p50 ms", "p99 ms", "failed")
    lines = [
        (
            row.case.system,
            str(clients),
            f"{row.requests_per_s.p50:,.0f}",
            f"{row.requests_per_s.least:,.0f}",
            f"{row.requests_per_s.most:,.0f}",
            f"{row.p50_ms.p50:.2f}",
            f"{row.p99_ms.p50:.2f}",
            str(row.failed),
        )
        for clients, group in sorted(by_clients.items())
        for row in group
    ]
    show(f"{workload}, warm", columns, lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of load, for each case")
    parser.add_argument("--systems", type=several(SYSTEMS), default=SYSTEMS)
    parser.add_argument("--workloads", type=several(WORKLOADS), default=WORKLOADS)
    parser.add_argument("--clients", type=numbers, default=CLIENTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
