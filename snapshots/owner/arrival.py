"""A slab that the memory owner copies, seen from the worker that waits for it."""

from __future__ import annotations

from time import monotonic, sleep

from dsfn.functions.errors import DsfnError, SnapshotError
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.progress import ProgressReader, State

_SPINS = 200  # some tens of microseconds
_FIRST_PAUSE_S, _LAST_PAUSE_S = 10e-6, 100e-6
_LOOK_EVERY_S = 0.02  # how often somebody who waits makes sure that the owner lives


class OwnedArrival:
    """See `dsfn.snapshots.memory.Arrival`: of the mapping `number`, at `address`.

    One thread may wait while others use the client.
    """

    def __init__(
        self,
        client: OwnerClient,
        number: int,
        progress: ProgressReader,
        address: int,
        size_bytes: int,
    ) -> None:
        self.address = address
        self.size_bytes = size_bytes
        self._client = client
        self._number = number
        self._progress = progress
        self._failure: DsfnError | None = None

    @property
    def arrived_bytes(self) -> int:
        """See `dsfn.snapshots.memory.Arrival`."""
        return self._progress.arrived_bytes

    def wait(self, end_bytes: int) -> int:
        """See `dsfn.snapshots.memory.Arrival`. A copy that stands still for as long as the
        client has patience is `OwnerLost`."""
        for _ in range(_SPINS):
            if (arrived := self._progress.arrived_bytes) >= end_bytes:
                return arrived
        return self._wait_long(end_bytes)

    def call_off(self) -> None:
        """Nothing comes any more; whoever waits hears it."""
        self._failure = self._failure or SnapshotError("The slab was parked while it came.")

    def finish(self) -> int:
        """Waits for the owner's word that all is there; microseconds that the copy took.

        For whoever holds the client's lock. Raises as `wait`.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._client.wait_copied(self._number)
        except DsfnError as error:
            self._failure = error
            raise

    def _wait_long(self, end_bytes: int) -> int:
        before, pause_s = -1, _FIRST_PAUSE_S
        while (arrived := self._progress.arrived_bytes) < end_bytes:
            now_s = monotonic()
            if arrived > before:
                before, moved_s, look_s = arrived, now_s, now_s + _LOOK_EVERY_S
            elif now_s >= look_s:
                look_s = now_s + _LOOK_EVERY_S
                self._check(now_s - moved_s)
            sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        return arrived

    def _check(self, standing_s: float) -> None:
        """Raises if nothing more will come, or nothing has for too long."""
        if self._failure is None and self._progress.state is State.FAILED:
            with self._client.lock:
                self.finish()
        if self._failure is None:
            try:
                self._client.check_alive(standing_s)
            except DsfnError as error:
                self._failure = error
        if self._failure is not None:
            raise self._failure
