"""A real PostgreSQL server, for the tests that need one."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from ports import free_port

HOW_TO_GET_IT = (
    "install PostgreSQL 14 or newer (Debian: `apt-get install postgresql`), or set"
    " DSFN_TEST_POSTGRES to the URL of a server whose user may create databases"
)
# Where Debian puts the programs, which it keeps from PATH.
_DEBIAN = Path("/usr/lib/postgresql")
_ROOTS_USERS = ("postgres", "nobody")  # as one of which the server runs, when this is root
_START_TIMEOUT_S = 60.0
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 2 << 30


def find_programs() -> Path | None:
    """The folder of `postgres` and `initdb`, if this machine has them."""
    on_path = shutil.which("postgres")
    found = [Path(on_path).resolve().parent] if on_path else []
    if _DEBIAN.is_dir():
        found += sorted(_DEBIAN.glob("*/bin"), key=lambda path: -int(path.parent.name))
    return next((each for each in found if (each / "initdb").exists()), None)


@dataclass(eq=False)
class PostgresServer:
    """A server. `place` is None for one that somebody else runs."""

    base_url: str
    programs: Path | None = None
    place: Path | None = None
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def is_ours(self) -> bool:
        """Whether it may be killed."""
        return self.place is not None

    def make_database(self) -> str:
        """The URL of a new empty database."""
        name = f"test_{uuid.uuid4().hex[:16]}"
        with psycopg.connect(self.base_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        head, _, query = self.base_url.partition("?")
        base, _, _ = head.rpartition("/")
        return f"{base}/{name}" + (f"?{query}" if query else "")

    def drop_database(self, url: str) -> None:
        """Takes a database away, whoever is connected to it."""
        if self.is_ours:
            self.start()
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        with psycopg.connect(self.base_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def start(self) -> None:
        """Starts the server if it does not run; it first recovers what one that was killed left."""
        if self._process is not None and self._process.poll() is None:
            return
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while True:
            self._process = self._spawn()
            while self._process.poll() is None:
                with suppress(psycopg.OperationalError):
                    psycopg.connect(self.base_url, connect_timeout=2).close()
                    return
                assert time.monotonic() < deadline_s, self._log.read_text(errors="replace")
                time.sleep(0.02)
            # Processes of the server that was killed are still about to notice.
            assert time.monotonic() < deadline_s, self._log.read_text(errors="replace")
            time.sleep(0.1)

    def kill(self) -> None:
        """`kill -9` of every process of the server at once."""
        assert self._process is not None
        if self._process.poll() is None:
            parent = psutil.Process(self._process.pid)
            for each in [*parent.children(), parent]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            self._process.wait()

    def stop_at_once(self) -> None:
        """PostgreSQL's immediate shutdown: what it had in memory is left to be recovered."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_START_TIMEOUT_S)

    def pause(self) -> None:
        """Has the server hang, its connections open, until `resume`."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused server go on."""
        self._signal_all(signal.SIGCONT)

    @property
    def _log(self) -> Path:
        assert self.place is not None
        return self.place / "postgres.log"

    def _spawn(self) -> subprocess.Popen[bytes]:
        assert self.programs is not None and self.place is not None
        command: list[str | Path] = [self.programs / "postgres", "-D", self.place / "data"]
        command += ["-k", self.place, "-p", str(self.port)]
        # After a crash each of a thousand files would be synced by itself.
        for setting in (
            "max_connections=64",
            "listen_addresses=127.0.0.1",
            "recovery_init_sync_method=syncfs",
        ):
            command += ["-c", setting]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.place, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                **_as_somebody(),
            )  # fmt: skip

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        for each in [parent, *parent.children()]:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)


@contextmanager
def postgres_server(programs: Path) -> Iterator[PostgresServer]:
    """Runs a server on a free port, with the settings that PostgreSQL has by itself."""
    # Not below pytest's folders, which are closed to the user that the server runs as; in memory,
    # as what is killed are processes, and a disk that many tests share takes its time to sync.
    memory = _MEMORY if _has_room(_MEMORY) else None
    with tempfile.TemporaryDirectory(prefix="dsfn-postgres-", dir=memory) as folder:
        place = Path(folder)
        if (user := _somebody()) is not None:
            shutil.chown(place, user)
        subprocess.run(
            [programs / "initdb", "-D", place / "data", "-A", "trust", "-U", "postgres",
             "--encoding=UTF8", "--no-locale", "--no-sync"],
            cwd=place, check=True, capture_output=True, timeout=_START_TIMEOUT_S, **_as_somebody(),
        )  # fmt: skip
        port = free_port()
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        server = PostgresServer(url, programs, place, port)
        try:
            server.start()
            yield server
        finally:
            # A server that is killed leaves shared memory behind.
            server.stop_at_once()


def _has_room(place: Path) -> bool:
    return place.is_dir() and shutil.disk_usage(place).free > _MEMORY_BYTES


def empty_ledger(url: str) -> None:
    """Takes all rows out of a ledger, whose triggers do not see it."""
    with psycopg.connect(url, options="-c session_replication_role=replica") as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'dsfn'")
        for (name,) in found.fetchall():
            if name != "migrations":
                connection.execute(f'DELETE FROM dsfn."{name}"')


def _somebody() -> str | None:
    """PostgreSQL refuses to run as root: who it runs as instead, None for who we are."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _ROOTS_USERS if name in known)


def _as_somebody() -> dict[str, Any]:
    user = _somebody()
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}
