"""What the systems of `workflow` need running beside their clients.

Each is a context manager over a directory: when it is entered again over the same one, after all
was killed, everything that had been stored is there.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT
from benchmarks.peers.setup import environment
from benchmarks.postgres import postgres_server
from benchmarks.processes import free_port, running, wait_for_answer
from benchmarks.systems import deploy, node_process

_PEERS = ROOT / "benchmarks" / "peers"
_APP = ROOT / "benchmarks" / "app" / "workflows.py"
_TEMPORAL_PORTS = (
    *("frontend", "frontend_members", "http", "matching", "matching_members"),
    *("history", "history_members", "worker", "worker_members"),
)


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
    with postgres_server(tools, directory) as started:
        yield Started(started.url("dbos"), (started.process,))


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
