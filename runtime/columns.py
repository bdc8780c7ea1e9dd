"""Columns that a table of an older node lacks."""

from __future__ import annotations

import apsw


def add_column(connection: apsw.Connection, table: str, column: str, declaration: str) -> None:
    """Adds a column to a table unless it has it, inside the caller's transaction. The names are
    the program's own."""
    known = {str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")}
    if column not in known:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {declaration}")
