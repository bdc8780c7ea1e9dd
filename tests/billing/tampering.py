"""What somebody does who may write a ledger's file and knows SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw


@contextmanager
def unguarded(path: Path) -> Iterator[apsw.Connection]:
    """A connection to a ledger whose triggers are away meanwhile, and back afterwards."""
    with closing(apsw.Connection(str(path))) as connection:
        triggers = connection.execute(
            "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall()
        for name, _, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        for _, table, text in triggers:
            if table in tables:
                connection.execute(str(text))
