from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dsfn.billing.ledger import Ledger
from dsfn.billing.postgres_ledger import PostgresLedger
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage


def _usage(**changes: Any) -> Usage:
    fields: dict[str, Any] = {
        "invocation_id": "i-1",
        "tenant": "default",
        "caller": "",
        "function": "echo",
        "revision": "echo-0123456789",
        "device_class": "cpu",
        "started_at_us": 1_790_000_000_000_000,
        "busy_us": 100,
        "held_us": 200,
        "restore_us": 0,
        "status": "succeeded",
    }
    return Usage(**{**fields, **changes})


@pytest.fixture(scope="session")
def make_usage() -> Callable[..., Usage]:
    """A row with the changes a test cares about."""
    return _usage


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    opened = SqliteLedger(tmp_path / "ledger.db")
    yield opened
    opened.close()


@pytest.fixture
def postgres_ledger(database: str) -> Iterator[PostgresLedger]:
    opened = PostgresLedger(database, writers=4)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """An empty ledger in each database that can keep one."""
    opened: Ledger = request.getfixturevalue(f"{request.param}_ledger")
    return opened
