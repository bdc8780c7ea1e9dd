"""What the systems of `workflow` need running beside their clients.

Each is a context manager over a directory: when it is entered again over the same one, after all
was killed, everything that had been stored is there.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT
from benchmarks.peers.setup import environment
from benchmarks.processes import START_S, free_port, running, wait_for_answer
from benchmarks.systems import deploy, node_process

_PEERS = ROOT / "benchmarks" / "peers"
_APP = ROOT / "benchmarks" / "app" / "workflows.py"
_TEMPORAL_PORTS = (
    *("frontend", "frontend_members", "http", "matching", "matching_members"),
    *("history", "history_members", "worker", "worker_members"),
)
_UNPRIVILEGED = "postgres"  # as which PostgreSQL runs, when this is root


@dataclass(frozen=True, slots=True)
class Started:
    """Where a system's client finds it, and the processes that are the system."""

    address: str
    processes: tuple[subprocess.Popen[bytes], ...] = ()


@contextmanager
def nothing(directory: Path) -> Iterator[Started]:
    """For a system that lives in its client's process."""
    del directory
    yield Started("none")


@contextmanager
def node(directory: Path) -> Iterator[Started]:
    """A dsfn node with the workflows deployed."""
    is_new = not (directory / "data").exists()
    with node_process(directory) as (server, port):
        if is_new:
            deploy(port, _APP)
        yield Started(str(port), (server,))


@contextmanager
def sqlite(directory: Path) -> Iterator[Started]:
    """A file of SQLite as its library makes it: a rollback journal."""
    yield Started(f"sqlite:///{directory}/dbos.db")


@contextmanager
def sqlite_wal(directory: Path) -> Iterator[Started]:
    """A file of SQLite with a write-ahead log, which the file itself says."""
    with closing(sqlite3.connect(directory / "dbos.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    yield Started(f"sqlite:///{directory}/dbos.db")


@contextmanager
def postgres(directory: Path) -> Iterator[Started]:
    """A PostgreSQL server with its default settings."""
    tools = Path(str(shutil.which("postgres"))).resolve().parent
    place, user = directory / "postgres", _UNPRIVILEGED if os.geteuid() == 0 else None
    if not place.exists():
        _initialise(tools, place, user)
    port, log = free_port(), directory / "postgres.log"
    command = (tools / "postgres", "-D", place / "data", "-k", place, "-p", str(port))
    with running(command, place, {}, log, user) as server:
        _wait_until_ready(tools, port)
        yield Started(f"postgresql://postgres@127.0.0.1:{port}/dbos", (server,))


@contextmanager
def temporal(directory: Path) -> Iterator[Started]:
    """One Temporal server over SQLite; its client waits until it answers."""
    ports = directory / "ports.json"
    if not ports.exists():  # the same again: it looks for those that it had
        ports.write_text(json.dumps({name: free_port() for name in _TEMPORAL_PORTS}))
    fill = json.loads(ports.read_bytes())
    template = (_PEERS / "temporal.yaml.template").read_text(encoding="utf-8")
    (directory / "temporal.yaml").write_text(template.format_map(fill), encoding="utf-8")
    shutil.copy(_PEERS / "temporal_dynamic.yaml", directory / "dynamic.yaml")
    command = ("temporal-server", "--config-file", "temporal.yaml", "--allow-no-auth", "start")
    with running(command, directory, {}, directory / "temporal.log") as server:
        yield Started(f"127.0.0.1:{fill['frontend']}", (server,))


@contextmanager
def temporal_local(directory: Path) -> Iterator[Started]:
    """The same; its client takes the word behind the address for local activities."""
    with temporal(directory) as started:
        yield Started(f"{started.address}/local", started.processes)


@contextmanager
def prefect(directory: Path) -> Iterator[Started]:
    """Prefect's server over SQLite, without its pages."""
    port, log = free_port(), directory / "prefect.log"
    python = environment("workflow") / "bin" / "python"
    variables = {"PREFECT_HOME": str(directory), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = (python, "-m", "prefect", "server", "start", "--no-ui", "--port", str(port))
    with running(command, directory, variables, log) as server:
        wait_for_answer(server, log, port, "/api/health", None)
        yield Started(f"http://127.0.0.1:{port}/api", (server,))


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
    """Raises `CalledProcessError` when a PostgreSQL server does not take connections in time."""
    deadline_s = time.monotonic() + START_S
    command = (tools / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}")
    while (done := subprocess.run(command)).returncode:
        if time.monotonic() > deadline_s:
            done.check_returncode()
        time.sleep(0.1)
