"""Runs a system and its client, and reads what the client finds."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT
from benchmarks.processes import kill, running
from benchmarks.workflows.cases import Case
from benchmarks.workflows.measure import LOOK_S, Site
from benchmarks.workflows.servers import Started
from benchmarks.workflows.systems import System

CLIENT_S = 600.0
LAST_CHARACTERS = 2000


class Failed(Exception):
    """A system did not do what it was asked."""


@dataclass(frozen=True, slots=True)
class Found:
    """How long each run of a case took, in seconds, and all of them together; or why it failed."""

    case: Case
    each_s: tuple[float, ...] = ()
    all_s: float = 0.0
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Resumed:
    """So many runs were begun in `begun_s`; all was killed; from when it was started again until
    the last of them had ended it took `resumed_s`."""

    runs: int
    begun_s: float = 0.0
    resumed_s: float = 0.0
    failed: str = ""


def measure(system: System, cases: Sequence[Case], seconds: float) -> Iterator[Found]:
    """Starts a system, measures all cases, and ends it. Raises `Failed` when its client ends."""
    tasks = [str(case) for case in cases]
    with (
        _directory() as directory,
        system.servers(directory) as started,
        _client(system, started, directory, seconds, tasks) as client,
    ):
        for case, document in zip(cases, client.documents(len(cases)), strict=True):
            if "failed" in document:
                yield Found(case, failed=document["failed"])
            else:
                yield Found(case, tuple(document["each_s"]), document["all_s"])


def resume(system: System, runs: int) -> Resumed:
    """Kills a system with so many runs under way, and has it finish them. Raises `Failed`."""
    with _directory() as directory:
        with (
            system.servers(directory) as started,
            _client(system, started, directory, 0, [f"begin:{runs}"]) as client,
        ):
            begun_s = -time.time()
            _checked(client)
            begun_s += time.time()
            for process in (client.process, *started.processes):
                kill(process)
        Site(directory, "").gate.touch()
        again_at_s = time.time()
        with (
            system.servers(directory) as started,
            _client(system, started, directory, 0, [f"end:{runs}"]) as client,
        ):
            return Resumed(runs, begun_s, _checked(client)["ended_at_s"] - again_at_s)


@dataclass(frozen=True, slots=True)
class _Client:
    process: subprocess.Popen[bytes]
    found: Path
    log: Path

    def documents(self, count: int) -> Iterator[Any]:
        """So many lines, as they come."""
        deadline_s, offset = time.monotonic() + CLIENT_S, 0
        while count:
            is_over = self.process.poll() is not None or time.monotonic() > deadline_s
            lines = self.found.read_bytes()[offset:].splitlines(keepends=True)
            for line in lines:
                if line.endswith(b"\n"):
                    offset, count = offset + len(line), count - 1
                    yield json.loads(line)
            if count and is_over:
                raise Failed(self.log.read_text(errors="replace")[-LAST_CHARACTERS:])
            time.sleep(LOOK_S)


@contextmanager
def _client(
    system: System, started: Started, directory: Path, seconds: float, tasks: Sequence[str]
) -> Iterator[_Client]:
    site, log = Site(directory, started.address), directory / "client.log"
    site.found.write_bytes(b"")
    variables = {
        "PYTHONPATH": str(ROOT),
        **system.variables(started.address, directory),
    }
    command = (*system.command(), directory, started.address, str(seconds), *tasks)
    with running(command, ROOT, variables, log) as process:
        yield _Client(process, site.found, log)


def _checked(client: _Client) -> Any:
    document = next(client.documents(1))
    if "failed" in document:
        raise Failed(document["failed"])
    return document


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dsfn-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)
