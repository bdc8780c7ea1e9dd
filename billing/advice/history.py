"""What one function did in a stretch of time, in few numbers."""

from __future__ import annotations

from dsfn.billing.advice.batches import Batches
from dsfn.billing.advice.deployed import Deployed
from dsfn.billing.advice.gaps import Gaps
from dsfn.billing.advice.leases import Leases
from dsfn.billing.advice.warmth import Warmth
from dsfn.billing.interval import Interval
from dsfn.billing.usage import Usage

_SECOND_US = 1_000_000
# Times until parking that are tried, beside the one that a function has.
PARK_AFTER_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600)


class History:
    """Takes the rows of a function in the order of their starts, each with the price of its
    devices in atto-currency a microsecond. Amounts are such prices times microseconds."""

    def __init__(self, deployed: Deployed, start_us: int) -> None:
        self.deployed = deployed
        self.calls = 0
        self.calls_atto = self.restore_atto = self.idle_atto = 0
        candidates_us = {seconds * _SECOND_US for seconds in PARK_AFTER_S}
        park_after_us = deployed.park_after_us
        self.gaps = Gaps(sorted({*candidates_us, park_after_us}), park_after_us)
        self.warmth = Warmth()
        self.batches = Batches()
        self._leases = Leases(self.gaps, self.warmth, park_after_us, start_us)
        # Of calls that share a replica the books have their shares of its time, not how long they
        # took by the clock.
        self.runs_alone = deployed.concurrency == deployed.max_batch == 1

    @property
    def cost_atto(self) -> int:
        """All the time for which the function held devices."""
        return self.calls_atto + self.restore_atto + self.idle_atto

    @property
    def restore_us(self) -> int | None:
        """What it takes to bring a replica back, in the mean; None where none was."""
        return self._leases.mean_restore_us()

    def call(self, row: Usage, price: int) -> None:
        """The row of a call."""
        if row.status == "rejected":
            return
        self.calls += 1
        self.calls_atto += row.held_us * price
        self._leases.call(row)
        if self.runs_alone:
            arrived_us = row.started_at_us - row.restore_us
            self.batches.call(arrived_us, row.busy_us, row.held_us, price)

    def interval(self, row: Interval, price: int) -> None:
        """The row of a device's time that is no call's."""
        if row.kind == "idle":
            self.idle_atto += row.duration_us * price
        elif row.kind == "restore":
            self.restore_atto += row.duration_us * price
        self._leases.interval(row, price)

    def finish(self, end_us: int) -> None:
        """Those were all rows, up to `end_us`."""
        self._leases.finish(end_us)
        self.batches.finish()
