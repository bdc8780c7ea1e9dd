"""The statements of a ledger by their names, as SQLite takes them.

PostgreSQL takes the same, with their parameters marked its way: see `postgres_queries`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dsfn.billing.sqlite import load_queries

Values = Sequence[object] | Mapping[str, object]
# Executes a statement by its name, and gives the rows.
Execute = Callable[[str, Values], list[Any]]

_NAMES = ("ledger", "usage", "documents", "rates", "paddings")
_FILES = [load_queries("dsfn.billing", f"sql/{name}.sql") for name in _NAMES]

SCHEMA = "\n".join(queries["schema"] for queries in _FILES if "schema" in queries)
QUERIES = {name: query for queries in _FILES for name, query in queries.items() if name != "schema"}
# Of SQLite's tables; it goes up when there is something that older versions would not keep.
SCHEMA_VERSION = 1
