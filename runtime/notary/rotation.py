"""Gives a ledger another key to sign with."""

from __future__ import annotations

from contextlib import closing

from dsfn.billing.signing import FILE_NAME, SigningKey
from dsfn.functions.errors import UsageError
from dsfn.runtime.clock import Clock
from dsfn.runtime.config import Settings
from dsfn.runtime.ledgers import open_ledger

# Until the ledger knows it, the next key waits here; a rotation that was stopped goes on with it.
_NEXT_FILE_NAME = "ledger-key.next.pem"


def rotate_key(settings: Settings, clock: Clock) -> SigningKey:
    """Has the key of a data directory name a new one, which takes its place; the old one is gone.

    Raises `UsageError` where there is no key, or a node runs; `StorageFull`, `StoreUnavailable`.
    """
    path = settings.data_dir / FILE_NAME
    if not path.exists():
        raise UsageError(f"There is no {FILE_NAME} in {settings.data_dir}.")
    key, next_path = SigningKey.open(path), path.with_name(_NEXT_FILE_NAME)
    with closing(open_ledger(settings)) as ledger:
        next_key = SigningKey.open(next_path)
        ledger.rotate(key, next_key, clock.now_us())
        next_path.replace(path)
    return next_key
