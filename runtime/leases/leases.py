"""The leases of a node that are not closed, and the rows that they have written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field, replace

from dsfn.billing.interval import Interval
from dsfn.billing.usage import Usage
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock
from dsfn.runtime.leases.lease import DeviceLease, Subject
from dsfn.runtime.worker.messages import Gpu

# While so many rows wait for a ledger that cannot be written, leases go on without new ones:
# they are longer then, and nothing is lost.
MAX_WAITING_ROWS = 10_000


@dataclass(eq=False)
class Leases:
    """Begins leases, and knows those that are not closed.

    `new_id` makes an id; `class_of` says what GPUs are billed as. `waiting` is told that there
    are `rows` to be posted.
    """

    clock: Clock
    new_id: Callable[[int], str]
    class_of: Callable[[Sequence[Gpu]], str]
    waiting: Callable[[], None] = lambda: None
    rows: list[Interval] = field(default_factory=list)
    _open: dict[str, DeviceLease] = field(default_factory=dict)

    def begin(self, function: str, revision: str, gpus: Sequence[Gpu]) -> DeviceLease:
        """A replica takes these GPUs, or the CPU, from now on."""
        subject = Subject(
            lease=self.new_id(self.clock.now_us()),
            device="+".join(f"gpu:{gpu.index}" for gpu in gpus) or "cpu",
            devices=len(gpus) or 1,
            device_class=self.class_of(gpus),
            function=function,
            revision=revision,
        )
        lease = self._open[subject.lease] = DeviceLease(subject, self.clock, self._write)
        return lease

    def taken(self) -> list[Interval]:
        """The rows that were written since the last time."""
        rows, self.rows = self.rows, []
        return rows

    def give_back(self, rows: Sequence[Interval]) -> None:
        """These could not be posted."""
        self.rows[:0] = rows

    def posted(self, rows: Iterable[Usage]) -> None:
        """These rows of calls are in the ledger."""
        for row in rows:
            lease = self._open.get(row.lease)
            if lease is not None:
                lease.posted()

    def lost(self, row: Usage) -> None:
        """This row of a call will never be in the ledger: what it paid of a restore, and is not
        posted, nobody pays."""
        if row.restore_us:
            self.rows = [
                replace(each, tenant="") if _is_restore_of(each, row) else each
                for each in self.rows
            ]
        lease = self._open.get(row.lease)
        if lease is not None:
            lease.lost(row)

    def flush(self) -> None:
        """Has all leases write down their time up to now."""
        if len(self.rows) < MAX_WAITING_ROWS:
            for lease in list(self._open.values()):
                lease.flush()

    def close(self) -> None:
        """Ends all leases."""
        for lease in list(self._open.values()):
            lease.end()

    def _write(self, row: Interval) -> None:
        if not self.rows:
            self.waiting()
        self.rows.append(row)
        if row.closes:
            del self._open[row.lease]


def _is_restore_of(interval: Interval, row: Usage) -> bool:
    return (interval.lease, interval.reason, interval.tenant) == (row.lease, "restore", row.tenant)
