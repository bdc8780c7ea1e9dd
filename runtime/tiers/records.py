"""What a node remembers of each snapshot: in SQLite, mirrored in memory."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import apsw

from dsfn.billing.sqlite import load_queries, storage_errors, transaction
from dsfn.functions.values import dataclass
from dsfn.runtime.heat import Heat

# Disks are larger than GPUs, and what is not on one takes longer to come back.
HALF_LIFE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Record:
    """One snapshot. Times are UTC microseconds since the epoch, None for never.

    `heat` is the count of uses that `used_at_us` left. `stored_at_us`: when it was last known to
    be in the store, from where it took `reload_us` to come back.
    """

    digest: str
    pinned: bool = False
    heat: float = 0.0
    used_at_us: int | None = None
    stored_at_us: int | None = None
    reload_us: int | None = None

    def heat_at(self, now_us: int) -> float:
        """How much it was used of late."""
        return self._heat().read(now_us / 1e6)

    def used(self, now_us: int) -> Record:
        """The record after one more use."""
        heat = self._heat()
        heat.use(now_us / 1e6)
        return replace(self, heat=heat.value, used_at_us=now_us)

    def _heat(self) -> Heat:
        return Heat(self.heat, (self.used_at_us or 0) / 1e6, HALF_LIFE_S)


class Records:
    """The records of a node. One thread uses them, with the connection it is given.

    Every change raises `StorageFull`, and changes nothing, when the disk has no room.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._queries = load_queries("dsfn.runtime.tiers", "sql/records.sql")
        with storage_errors(Path(connection.filename)):
            connection.execute(self._queries["schema"])
        rows = connection.execute(self._queries["select_records"])
        self._records = {row[0]: _record(row) for row in rows}
        self._unwritten: set[str] = set()

    def of(self, digest: str) -> Record:
        """What is remembered of a snapshot; of an unknown one, that it is new."""
        return self._records.get(digest) or Record(digest)

    def pinned(self) -> frozenset[str]:
        """The digests of the pinned ones."""
        return frozenset(d for d, record in self._records.items() if record.pinned)

    def use(self, digest: str, now_us: int) -> None:
        """Counts one more use, which `write_uses` writes: a replica that starts does not wait for
        the disk."""
        self._records[digest] = self.of(digest).used(now_us)
        self._unwritten.add(digest)

    def write_uses(self) -> None:
        """Writes the uses that were not written yet."""
        used = [self._records[digest] for digest in self._unwritten]
        if used:
            with transaction(self._connection):
                for record in used:
                    self._connection.execute(self._queries["write_record"], asdict(record))
        self._unwritten.clear()

    def change(self, digest: str, **values: Any) -> Record:
        """Writes these fields of a record; the record."""
        return self.write(replace(self.of(digest), **values))

    def write(self, record: Record) -> Record:
        """Writes a record; the same one."""
        if record != self.of(record.digest):
            with transaction(self._connection):
                self._connection.execute(self._queries["write_record"], asdict(record))
            self._records[record.digest] = record
        return record

    def forget(self, digest: str) -> None:
        """Drops what is remembered of a snapshot."""
        with transaction(self._connection):
            self._connection.execute(self._queries["delete_record"], {"digest": digest})
        self._records.pop(digest, None)
        self._unwritten.discard(digest)


def _record(row: tuple[Any, ...]) -> Record:
    digest, pinned, *rest = row
    return Record(digest, bool(pinned), *rest)
