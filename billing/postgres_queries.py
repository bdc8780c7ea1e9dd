"""The ledger's queries for PostgreSQL: those of SQLite as psycopg takes them, and some more."""

from __future__ import annotations

import re

from dsfn.billing.sqlite import load_queries

_PARAMETER = re.compile(r"(?<!:):(\w+)")


def _for_psycopg(query: str) -> str:
    """A query with its parameters as psycopg marks them."""
    return _PARAMETER.sub(r"%(\1)s", query.replace("%", "%%"))


_NAMED = load_queries("dsfn.billing", "sql/ledger.sql") | load_queries(
    "dsfn.billing", "sql/postgres.sql"
)
QUERIES = {name: _for_psycopg(query) for name, query in _NAMED.items() if name != "schema"}
