"""What is in a journal already: a repeat is nothing new, another body under its name refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dsfn.billing.entry import DOCUMENT, ROUNDING, USAGE, Entry, getter
from dsfn.functions.errors import Conflict

# What makes an entry the one that it is: tenant, source and id.
Name = tuple[str, str, str]
# A key under which a call succeeds once: tenant, function and idempotency key.
Success = tuple[str, str, str]


# What two entries never have in common.
name_of: Callable[[Entry], Name] = getter("tenant", "source", "id")


def success_of(entry: Entry) -> Success | None:
    """The key that this entry is the one success of, None where there is none."""
    if entry.kind != "usage" or entry.status != "succeeded" or not entry.idempotency_key:
        return None
    return entry.tenant, entry.function, entry.idempotency_key


def new_among(
    entries: Iterable[Entry],
    find: Callable[[Name], Entry | None],
    has_succeeded: Callable[[Success], bool],
) -> list[Entry]:
    """The entries that are not there yet, in their order. `find` and `has_succeeded` look into
    the journal. Raises `Conflict`."""
    fresh: dict[Name, Entry] = {}
    successes: set[Success] = set()
    for entry in entries:
        name, success = name_of(entry), success_of(entry)
        found = fresh.get(name) or find(name)
        if found is not None:
            _require_same(found, entry)
            continue
        if success is not None:
            if success in successes or has_succeeded(success):
                raise Conflict(
                    f"Another invocation of {entry.function} succeeded under the same idempotency"
                    " key.",
                    invocation_id=entry.id,
                    idempotency_key=entry.idempotency_key,
                )
            successes.add(success)
        fresh[name] = entry
    return list(fresh.values())


def _require_same(found: Entry, entry: Entry) -> None:
    if entry.source not in (DOCUMENT, ROUNDING):
        # A month may have been closed between the two.
        entry = entry._replace(period=found.period)
    if found != entry:
        raise conflict(entry, "is in the ledger with another body")


def conflict(entry: Entry, what: str) -> Conflict:
    """A refusal of one entry, in a sentence."""
    if entry.source == USAGE:
        return Conflict(f"Invocation {entry.id} {what}.", invocation_id=entry.id)
    return Conflict(f"The {entry.kind} {entry.id} {what}.", id=entry.id)
