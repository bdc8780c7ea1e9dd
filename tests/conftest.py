"""What tests need of a machine. Where it lacks something they are skipped, in CI they fail."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest

# Tests share their processors: threads of OpenMP that spin at a barrier take them from the rest.
# A node's workers have a limit of their own.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).parent / "servers"))
sys.path.insert(0, str(Path(__file__).parent / "functions" / "workflow"))
sys.path.insert(0, str(Path(__file__).parent / "runtime"))
sys.path.insert(0, str(Path(__file__).parent / "runtime" / "cli"))

import postgres_server
import small_disks
from postgres_server import PostgresServer
from s3_server import CREDENTIALS, HOW_TO_GET_IT, S3Server, s3_server

Require = Callable[[str, str], None]
SmallDisk = Callable[[str], Path]


@pytest.fixture(scope="session")
def require() -> Require:
    """Asks for a program or module; the second argument says how to get it."""

    def check(part: str, how_to_get_it: str) -> None:
        if shutil.which(part) is None and find_spec(part) is None:
            _missing(part, how_to_get_it)

    return check


@pytest.fixture(scope="session")
def s3(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, which the whole run shares; buckets are a test's own."""
    require("versitygw", HOW_TO_GET_IT)
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def any_postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL, which the whole run shares; databases are a test's own."""
    if url := os.environ.get("DSFN_TEST_POSTGRES"):
        yield PostgresServer(url)
        return
    programs = postgres_server.find_programs()
    if programs is None:
        _missing("a PostgreSQL server", postgres_server.HOW_TO_GET_IT)
    with postgres_server.postgres_server(programs) as server:
        yield server


@pytest.fixture
def postgres(any_postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL that a test may kill and starts again."""
    if not any_postgres.is_ours:
        _missing("a PostgreSQL server of its own", postgres_server.HOW_TO_GET_IT)
    yield any_postgres
    any_postgres.start()


@pytest.fixture
def database(any_postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    url = any_postgres.make_database()
    yield url
    any_postgres.drop_database(url)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the S3 server, where boto3 looks for them."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Makes a disk of this size ("64k"); the same again resizes it."""
    target = tmp_path / "small-disk"
    small_disks.unmount_what_is_left()

    def mount(size: str) -> Path:
        if not small_disks.mount(target, size):
            _missing("a disk that can be filled", small_disks.HOW_TO_GET_IT)
        return target

    yield mount
    if target.exists():
        small_disks.unmount(target)


def _missing(part: str, how_to_get_it: str) -> NoReturn:
    reason = f"needs {part}: {how_to_get_it}"
    if os.environ.get("CI"):
        pytest.fail(f"This test {reason}")
    pytest.skip(reason)
