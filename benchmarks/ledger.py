"""What the ledger costs: posting, checking, billing, recovery, and a call's row.

    python -m benchmarks.ledger [--rows 20000] [--report-rows 1000000] [--only write,verify] ...

Each part runs by itself over databases of its own in a temporary directory. Posting is measured
beside a plain table of the same database, which promises the same and has no chain.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psutil

from benchmarks.harness import Machine, console, numbers, save, several
from benchmarks.ledgers.books import bill, check
from benchmarks.ledgers.recovery import recover
from benchmarks.ledgers.serving import serve
from benchmarks.ledgers.stores import STORES, Place, Store
from benchmarks.ledgers.tables import Row, aims_of, show_aims, show_rows
from benchmarks.ledgers.writing import write
from benchmarks.postgres import postgres_server, programs

PARTS = ("write", "verify", "report", "recover", "serve")
WRITERS = (1, 4, 8, 16)
BATCHES = (1, 100, 1000)


def main() -> None:
    """Measures, prints and saves."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    options = _options()
    machine = Machine.this()
    console.print(machine.sentence())
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="dsfn-bench-") as directory:
        filesystem = _filesystem(Path(directory))
        console.print(f"Databases are on {filesystem}", markup=False)
        with _places(Path(directory), options.stores) as (place, stores):
            for part in options.only:
                console.print(f"{part} ...", markup=False)
                found = list(_measure(part, place, stores, options))
                show_rows(found)
                rows += found
    aims = aims_of(rows)
    show_aims(aims)
    settings = {**vars(options), "filesystem": filesystem, "aims": [asdict(aim) for aim in aims]}
    path = settings.pop("output")
    console.print(f"Written to {save('ledger', machine, settings, rows, path)}")


def _measure(
    part: str, place: Place, stores: Sequence[Store], options: argparse.Namespace
) -> Iterable[Row]:
    match part:
        case "write":
            return write(place, stores, options.writers, options.batches, options.rows)
        case "verify":
            return (row for store in stores for row in check(place, store, options.verify_rows))
        case "report":
            return (row for store in stores for row in bill(place, store, options.report_rows))
        case "recover":
            return (recover(place, store, options.kills) for store in stores)
        case _:
            return (serve(place.directory, options.calls),)


@contextmanager
def _places(directory: Path, wanted: Sequence[Store]) -> Iterator[tuple[Place, tuple[Store, ...]]]:
    """Where databases are, and of which kinds they can be."""
    tools = programs() if "postgresql" in wanted else None
    if tools is not None:
        with postgres_server(tools, directory) as server:
            yield Place(directory, server), tuple(wanted)
        return
    if "postgresql" in wanted:
        console.print("postgresql is left out: there is no postgres on the PATH")
    yield Place(directory, None), tuple(store for store in wanted if store != "postgresql")


def _filesystem(directory: Path) -> str:
    """Of the mount that a directory is in: a commit costs what its disk's sync costs."""
    mounts = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    place = next(each for each in (directory, *directory.parents) if each in mounts)
    return mounts[place]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", type=several(PARTS), default=PARTS)
    parser.add_argument("--stores", type=several(STORES), default=STORES)
    parser.add_argument("--rows", type=int, default=20_000, help="posted in each case")
    parser.add_argument("--writers", type=numbers, default=WRITERS)
    parser.add_argument("--batches", type=numbers, default=BATCHES)
    parser.add_argument("--verify-rows", type=int, default=200_000)
    parser.add_argument("--report-rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2_000, help="of each node")
    parser.add_argument("--output", type=Path, help="a file in place of benchmarks/results/...")
    return parser.parse_args()


if __name__ == "__main__":
    main()
