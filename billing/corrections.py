"""Corrections of calls: the row is taken back, and another follows."""

from __future__ import annotations

from dataclasses import replace

from dsfn.billing.entry import Entry, entries_of, reversal_of, waiver_of
from dsfn.billing.usage import Usage
from dsfn.functions.errors import Conflict


def correction_of(
    invocation_id: str, first: Entry | None, replacement: Usage, closed_until_us: int
) -> list[Entry]:
    """The entries that correct a call, `first` being its own.

    The key under which the call succeeded stays with the first row: the new one has none. Raises
    `Conflict` when there is no such call, when the time that its lease held would no longer be
    accounted for, and for a longer restore: nobody waited for that.
    """
    if first is None:
        raise Conflict(f"There is no call {invocation_id}.", invocation_id=invocation_id)
    new = entries_of(replace(replacement, idempotency_key=""), closed_until_us)[0]
    if (first.credit, first.amount) != (new.credit, new.amount):
        raise Conflict(
            f"The correction of {invocation_id} must hold the same lease for as long.",
            invocation_id=invocation_id,
        )
    if new.restore_us > first.restore_us:
        raise Conflict(
            f"The correction of {invocation_id} cannot charge more of its restore than there was.",
            invocation_id=invocation_id,
        )
    waived = [waiver_of(first, new)] if new.restore_us < first.restore_us else []
    return [reversal_of(first, closed_until_us, new.id), new, *waived]
