"""The ledger's tables in PostgreSQL, made and changed by numbered files, each applied once."""

from __future__ import annotations

import re
from hashlib import sha256
from importlib.resources import files

from dsfn.billing.address import Address
from dsfn.billing.postgres import SCHEMA, Connection, server_errors
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

_PREFIX = "postgres_"
_TRIGGER = re.compile(r"CREATE TRIGGER (\w+)\s+BEFORE UPDATE OR DELETE OR TRUNCATE ON (\w+)")
# Of the advisory lock under which one process at a time looks at the schema: "dsfn" in ASCII.
_LOCK = 0x6473666E
_TABLE = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL, -- of the file
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: "postgres_0001_ledger.sql" is number 1, "ledger"."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The digest of the file, by which one that was changed later is known."""
        return sha256(self.text.encode()).hexdigest()


def known_migrations() -> tuple[Migration, ...]:
    """The files that come with this version, in order."""
    found = []
    for file in files("dsfn.billing").joinpath("sql").iterdir():
        stem = file.name.removeprefix(_PREFIX).removesuffix(".sql")
        number, _, name = stem.partition("_")
        if file.name.startswith(_PREFIX) and number.isdigit():
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda each: each.number))


def guards() -> list[tuple[str, str]]:
    """Table and name of the triggers of the files that refuse changes."""
    made = _TRIGGER.findall("".join(migration.text for migration in known_migrations()))
    return [(table, name) for name, table in made]


def migrate(connection: Connection, address: Address) -> None:
    """Brings the schema to this version, whichever it is at; nothing happens when it is there.

    Raises `UsageError` for a schema that a newer version made, and for one whose files were
    others; `StoreUnavailable`, `StorageFull`.
    """
    known = known_migrations()
    with server_errors(address), connection.transaction():
        # A table that is large may take its time.
        connection.execute("SET LOCAL statement_timeout = 0")
        # Held to the end of the transaction. `CREATE ... IF NOT EXISTS` alone is not enough for
        # two at once.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if not _is_made(connection):
            connection.execute(_TABLE)
        applied = connection.execute("SELECT number, name, sha256 FROM migrations ORDER BY number")
        done = _require_known(applied.fetchall(), known, address)
        for migration in known[done:]:
            connection.execute(migration.text)
            connection.execute(
                "INSERT INTO migrations (number, name, sha256) VALUES (%s, %s, %s)",
                (migration.number, migration.name, migration.sha256),
            )


def _is_made(connection: Connection) -> bool:
    """Whether there is a schema: a ledger may then belong to somebody who may not make one."""
    found = connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.migrations",)).fetchone()
    return found is not None and found[0] is not None


def _require_known(
    applied: list[tuple[int, str, str]], known: tuple[Migration, ...], address: Address
) -> int:
    """How many files were applied, all of which are ours. Raises `UsageError`."""
    for at, (number, name, digest) in enumerate(applied):
        if number > known[-1].number:
            raise UsageError(
                f"The ledger {address} was written by a newer dsfn (its schema is at"
                f" {applied[-1][0]}, this version knows {known[-1].number}): update this one."
            )
        if (number, name, digest) != (known[at].number, known[at].name, known[at].sha256):
            raise UsageError(
                f"The schema of the ledger {address} was made by another file {number} ({name})"
                " than this version has."
            )
    return len(applied)
