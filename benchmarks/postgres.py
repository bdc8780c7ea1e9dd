"""A PostgreSQL server of its own, with its default settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import START_S, free_port, running

# Where Debian puts the programs, which it keeps from PATH.
_DEBIAN = Path("/usr/lib/postgresql")
_UNPRIVILEGED = "postgres"  # as which PostgreSQL runs, when this is root


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """One that takes connections from everybody on this machine."""

    port: int
    process: subprocess.Popen[bytes]

    def url(self, database: str) -> str:
        """Where a database of its is."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


def programs() -> Path | None:
    """The folder of `postgres` and `initdb`: PATH's or Debian's newest, None without either."""
    on_path = shutil.which("postgres")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = [place for place in _DEBIAN.glob("*/bin") if (place / "initdb").exists()]
    return max(found, key=lambda place: int(place.parent.name), default=None)


@contextmanager
def postgres_server(tools: Path, directory: Path) -> Iterator[PostgresServer]:
    """Runs a server over what is in `directory`, which is made ready the first time."""
    place, user = directory / "postgres", _UNPRIVILEGED if os.geteuid() == 0 else None
    if not place.exists():
        _initialise(tools, place, user)
    port, log = free_port(), directory / "postgres.log"
    command = (tools / "postgres", "-D", place / "data", "-k", place, "-p", str(port))
    with running(command, place, {}, log, user) as process:
        _wait_until_ready(tools, port)
        yield PostgresServer(port, process)


def _initialise(tools: Path, place: Path, user: str | None) -> None:
    """Makes a database cluster that trusts everybody on this machine."""
    place.mkdir()
    if user is not None:
        shutil.chown(place, user)
        place.parent.chmod(0o711)
    command = (tools / "initdb", "-D", place / "data", "-A", "trust", "-U", "postgres")
    with running(command, place, {}, place.parent / "initdb.log", user) as initdb:
        if initdb.wait(START_S) != 0:
            raise RuntimeError((place.parent / "initdb.log").read_text(errors="replace"))


def _wait_until_ready(tools: Path, port: int) -> None:
    """Raises `CalledProcessError` when a server does not take connections in time."""
    deadline_s = time.monotonic() + START_S
    command = (tools / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}")
    while (done := subprocess.run(command)).returncode:
        if time.monotonic() > deadline_s:
            done.check_returncode()
        time.sleep(0.1)
