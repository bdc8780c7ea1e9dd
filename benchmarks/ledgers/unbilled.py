"""dsfn's command line with a ledger that keeps no row: `python -m benchmarks.ledgers.unbilled`."""

from __future__ import annotations

from unittest.mock import patch

from dsfn.billing.spool import Spool
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.runtime.cli.app import main


def _nothing(_: object, __: object) -> None:
    """Keeps nothing, and takes no time."""


if __name__ == "__main__":
    with patch.object(SqliteLedger, "post", _nothing), patch.object(Spool, "add", _nothing):
        main()
