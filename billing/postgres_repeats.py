"""What is in a journal in PostgreSQL already, looked up for many entries at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dsfn.billing.entry import COLUMNS, RESERVATION, SETTLEMENT, Entry
from dsfn.billing.postgres import Connection
from dsfn.billing.repeats import Name, conflict, name_of, new_among, success_of
from dsfn.billing.rollups import Totals

_FIND = f"""
SELECT {", ".join(f"entries.{name}" for name in COLUMNS)}
FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted (tenant, source, id)
JOIN entries USING (tenant, source, id)
"""
_FIND_SUCCESSES = """
SELECT entries.tenant, entries.function, entries.idempotency_key
FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted (tenant, function, idempotency_key)
JOIN entries USING (tenant, function, idempotency_key)
WHERE entries.kind = 'usage' AND entries.status = 'succeeded' AND entries.idempotency_key <> ''
"""
_OPEN = "INSERT INTO open_reservations (tenant, id) SELECT * FROM unnest(%s::text[], %s::text[])"
_SETTLE = """
DELETE FROM open_reservations
WHERE (tenant, id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""


def without_repeats(connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    """Those that are not in the journal. Raises `Conflict`."""
    found = find_entries(connection, map(name_of, entries))
    successes = [success for entry in entries if (success := success_of(entry)) is not None]
    succeeded = _rows(connection, _FIND_SUCCESSES, successes) if successes else ()
    return new_among(entries, found.get, set(succeeded).__contains__)


def find_entries(connection: Connection, names: Iterable[Name]) -> dict[Name, Entry]:
    """The entries of the journal that have these names."""
    found = map(Entry._make, _rows(connection, _FIND, names))
    return {name_of(entry): entry for entry in found}


def note_reservations(connection: Connection, totals: Totals, entries: Sequence[Entry]) -> None:
    """Notes which reservations are open, once the entries are in the journal. Raises `Conflict`
    for money that is given back and is not set aside."""
    counts = totals.reservations.items()
    opened = [name for name, count in counts if count > 0]
    settled = [name for name, count in counts if count < 0]
    if opened:
        connection.execute(_OPEN, _columns(opened))
    all_were_open = not settled or _changes(connection, _SETTLE, settled) == len(settled)
    settling = [entry for entry in entries if entry.source == SETTLEMENT]
    firsts = find_entries(connection, ((e.tenant, RESERVATION, e.id) for e in settling))
    for entry in settling:
        first = firsts.get((entry.tenant, RESERVATION, entry.id))
        if first is None or not all_were_open:
            raise conflict(entry, "is of a reservation that is not open")
        if (first.amount, first.commodity) != (entry.amount, entry.commodity):
            raise conflict(entry, "is not the amount that was reserved")


def _rows(
    connection: Connection, query: str, wanted: Iterable[tuple[str, ...]]
) -> list[tuple[Any, ...]]:
    columns = _columns(wanted)
    return connection.execute(query, columns).fetchall() if columns else []


def _changes(connection: Connection, query: str, wanted: Iterable[tuple[str, ...]]) -> int:
    return connection.execute(query, _columns(wanted)).rowcount


def _columns(rows: Iterable[tuple[str, ...]]) -> list[list[str]]:
    """Rows as arrays, one for each column."""
    return [list(column) for column in zip(*rows, strict=True)]
