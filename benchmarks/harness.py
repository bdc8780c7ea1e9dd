"""What all benchmarks share: the machine's description, statistics, tables, files."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
console = Console(width=max(100, Console().width))


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were measured on. `load`: runnable processes just before, on average."""

    cpu: str
    cores: int
    memory_bytes: int
    load: float
    kernel: str
    python: str
    torch: str
    dsfn: str
    measured_at: str

    @classmethod
    def this(cls) -> Machine:
        """The one that this runs on."""
        return cls(
            cpu=_cpu_model(),
            cores=len(os.sched_getaffinity(0)),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            load=round(os.getloadavg()[0], 2),
            kernel=platform.release(),
            python=platform.python_version(),
            torch=_version("torch"),
            dsfn=_commit(),
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def sentence(self) -> str:
        """The machine in one line."""
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_bytes / 2**30:.0f} GiB,"
            f" Linux {self.kernel}, Python {self.python}, torch {self.torch}; load {self.load}"
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """How a set of measurements lies, in their own unit."""

    n: int
    p50: float
    p99: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value; `p99` of fewer than a hundred is the largest."""
        return cls(
            n=len(values),
            p50=percentile(values, 50),
            p99=percentile(values, 99),
            least=min(values),
            most=max(values),
        )


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of 100 are not above (nearest rank)."""
    rank = max(1, -(-len(values) * percent // 100))
    return sorted(values)[int(rank) - 1]


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table: the first column is text, the others are figures."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def several(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Reads an option: names with commas between them, of those that are known."""

    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        if not set(chosen) <= set(known):
            raise argparse.ArgumentTypeError(f"choose from {', '.join(known)}")
        return chosen

    return names


def numbers(text: str) -> tuple[int, ...]:
    """Reads an option: whole numbers with commas between them."""
    return tuple(int(part) for part in text.split(","))


def save(
    name: str,
    machine: Machine,
    settings: Mapping[str, Any],
    rows: Sequence[Any],
    path: Path | None = None,
) -> Path:
    """Writes `results/NAME.json`, or another file; `rows` are dataclass instances."""
    path = path or RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    document = {
        "benchmark": name,
        "machine": asdict(machine),
        "settings": dict(settings),
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    """What of dsfn is measured: `DSFN_COMMIT` where it is set, for a copy whose git says nothing or
    is of another commit than its files."""
    if told := os.environ.get("DSFN_COMMIT"):
        return told
    command = ("git", "describe", "--always", "--dirty")
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
