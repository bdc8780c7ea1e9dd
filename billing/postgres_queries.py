"""The ledger's statements as psycopg takes them: those of SQLite, and a few that are otherwise."""

from __future__ import annotations

import re
from typing import Any

from dsfn.billing import queries
from dsfn.billing.postgres import Connection
from dsfn.billing.queries import Execute, Values
from dsfn.billing.sqlite import load_queries

_NAMED = re.compile(r"(?<!:):(\w+)")


def _for_psycopg(query: str) -> str:
    """A statement with its parameters marked the way psycopg marks them."""
    return _NAMED.sub(r"%(\1)s", query.replace("%", "%%")).replace("?", "%s")


_ALL = load_queries("dsfn.billing", "sql/postgres.sql", queries.QUERIES)
QUERIES = {name: _for_psycopg(query) for name, query in _ALL.items()}


def executing(connection: Connection) -> Execute:
    """Executes statements by their names on a connection."""

    def execute(name: str, values: Values) -> list[Any]:
        cursor = connection.execute(QUERIES[name], values)
        return cursor.fetchall() if cursor.description else []

    return execute
