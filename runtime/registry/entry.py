"""What is kept in memory of one function, so that a call needs no query."""

from __future__ import annotations

from collections.abc import Mapping

from dsfn.functions.values import dataclass
from dsfn.runtime.model import Revision
from dsfn.runtime.registry.values import FunctionRecord


@dataclass(frozen=True, slots=True)
class Entry:
    """A function, its revisions newest first, and who serves each hundredth of its calls
    (a single revision when it serves all)."""

    record: FunctionRecord
    history: tuple[Revision, ...]
    hundredths: tuple[Revision, ...]


def entry_of(
    name: str, created_at_us: int, history: tuple[Revision, ...], percents: Mapping[str, int]
) -> Entry:
    """The entry of a function from its rows; `percents` names at least one of its revisions."""
    serving = tuple(r for r in history if r.id in percents)
    traffic = {r.id: percents[r.id] for r in serving}
    current = max(serving, key=lambda r: traffic[r.id])
    record = FunctionRecord(name, created_at_us, traffic, current)
    if len(serving) == 1:
        return Entry(record, history, serving)
    return Entry(record, history, tuple(r for r in serving for _ in range(traffic[r.id])))
