"""A slab that the memory owner copies, seen from the worker that waits for it."""

from __future__ import annotations

from collections.abc import Callable
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
        self._stand_by(lambda: self._progress.arrived_bytes >= end_bytes or self._has_failed())
        if (arrived := self._progress.arrived_bytes) < end_bytes:
            with self._client.lock:
                self.finish()
        return arrived

    def call_off(self) -> None:
        """Nothing comes any more; whoever waits hears it."""
        self._failure = self._failure or SnapshotError("The slab was parked while it came.")

    def finish(self) -> int:
        """Waits until all is there; microseconds that the copy took.

        For whoever holds the client's lock. Raises as `wait`.
        """
        if self._failure is not None:
            raise self._failure
        self._stand_by(lambda: self._progress.state is not State.RUNNING)
        if self._has_failed():
            self._failure = self._client.failure(self._number)
            raise self._failure
        self._client.arrived(self._number)
        return self._progress.copy_us

    def _has_failed(self) -> bool:
        return self._progress.state is State.FAILED

    def _stand_by(self, is_over: Callable[[], bool]) -> None:
        before, pause_s = -1, _FIRST_PAUSE_S
        while not is_over():
            now_s = monotonic()
            if (arrived := self._progress.arrived_bytes) > before:
                before, moved_s, look_s = arrived, now_s, now_s + _LOOK_EVERY_S
            elif now_s >= look_s:
                look_s = now_s + _LOOK_EVERY_S
                self._check(now_s - moved_s)
            sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    def _check(self, standing_s: float) -> None:
        """Raises if nothing more will come, or nothing has for too long."""
        if self._failure is None:
            try:
                self._client.check_alive(standing_s)
            except DsfnError as error:
                self._failure = error
        if self._failure is not None:
            raise self._failure
