"""A process that posts to a ledger, to be killed or to come after one that was.

    python -m benchmarks.ledgers.writer ADDRESS      # until it is killed
    python -m benchmarks.ledgers.writer ADDRESS ID   # one row; then looks for another one

Prints a line whenever a batch is committed: the id of its last row. ID may be "" for none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from random import Random

from benchmarks.ledgers.calls import call
from benchmarks.ledgers.stores import open_ledger

_BATCH = 1000


def main(arguments: Sequence[str]) -> int:
    """Posts; 1 where the row of the one that was killed is not there."""
    address, *before = arguments
    size = 1 if before else _BATCH
    random = Random(os.urandom(16))
    with open_ledger(address) as ledger:
        while True:
            rows = [call(random, number, size) for number in range(size)]
            ledger.post(rows)
            sys.stdout.write(f"{rows[-1].invocation_id}\n")
            sys.stdout.flush()
            if before:
                return int(before[0] != "" and ledger.usage(before[0]) is None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
