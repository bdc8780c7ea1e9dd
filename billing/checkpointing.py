"""Checkpoints in a ledger's database."""

from __future__ import annotations

from dsfn.billing.checkpoints import Checkpoint, Heads, following, read_checkpoint, require_key
from dsfn.billing.queries import Execute
from dsfn.billing.signing import SigningKey
from dsfn.functions.errors import UsageError


def add_checkpoint(
    execute: Execute, key: SigningKey, heads: Heads, now_us: int
) -> Checkpoint | None:
    """Signs the heads of all chains with rows and keeps that, in a transaction of the caller;
    None when they were signed before.

    Raises `UsageError` when another key signed the last checkpoint, also where nothing has come.
    """
    last = last_checkpoint(execute)
    require_key(key, last)
    if heads == (last.heads if last else ()):
        return None
    checkpoint = following(key, last, heads, now_us)
    execute("insert_checkpoint", (checkpoint.number, checkpoint.to_text()))
    return checkpoint


def rotate(
    execute: Execute, key: SigningKey, next_key: SigningKey, heads: Heads, now_us: int
) -> None:
    """Has a key name the next one, and that one follow, in a transaction of the caller. Nothing
    happens when it has taken over already.

    Raises `UsageError` when another key signed the last checkpoint.
    """
    before = last_checkpoint(execute)
    if before is not None and before.public_key == next_key.public_key:
        return
    last = following(key, before, heads, now_us, next_key.public_key)
    for checkpoint in (last, following(next_key, last, heads, now_us)):
        execute("insert_checkpoint", (checkpoint.number, checkpoint.to_text()))


def unsigned_rows(execute: Execute, heads: Heads) -> int:
    """How many rows have come since the last checkpoint."""
    last = last_checkpoint(execute)
    signed = sum(head.seq for _, head in last.heads) if last else 0
    return sum(head.seq for _, head in heads) - signed


def last_checkpoint(execute: Execute) -> Checkpoint | None:
    """The newest. Raises `UsageError` when it cannot be read."""
    found = execute("select_last_checkpoint", ())
    try:
        return read_checkpoint(found[0][0]) if found else None
    except ValueError as error:
        raise UsageError("The last checkpoint of the ledger cannot be read.") from error
