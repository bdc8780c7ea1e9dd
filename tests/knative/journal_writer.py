"""A leader that counts: one transaction after another, each told once it is committed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dsfn.billing.address import Address
from dsfn.billing.sqlite import transaction
from dsfn.functions.errors import StoreUnavailable
from dsfn.knative.control.journal import restore
from dsfn.knative.control.journal_tables import JournalTables


def main() -> None:
    """Counts on from where the leader before this one was, until it is killed."""
    url, path = sys.argv[1:]
    tables = JournalTables.take_over(Address(url))
    state = restore(Path(path), tables, lambda _: os._exit(3))
    connection = state.connection
    connection.execute(
        "CREATE TABLE IF NOT EXISTS counted (number INTEGER PRIMARY KEY, by INTEGER)"
    )
    connection.execute("CREATE TABLE IF NOT EXISTS total (id INTEGER PRIMARY KEY, sum INTEGER)")
    state.keep()
    while True:
        try:
            with transaction(connection):
                number: int = connection.execute("SELECT count(*) + 1 FROM counted").get
                connection.execute("INSERT INTO counted VALUES (?, ?)", (number, os.getpid()))
                connection.execute(
                    "INSERT INTO total VALUES (1, ?1) ON CONFLICT DO UPDATE SET sum = sum + ?1",
                    (number,),
                )
        except StoreUnavailable:
            continue
        os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    main()
