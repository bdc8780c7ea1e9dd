"""dsfn's command line with a ledger that keeps no row: `python -m benchmarks.ledgers.unbilled`."""

from __future__ import annotations

from unittest.mock import patch

from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.runtime.cli.app import main

if __name__ == "__main__":
    with patch.object(SqliteLedger, "post"):
        main()
