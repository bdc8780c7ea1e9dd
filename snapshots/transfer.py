"""A copy to or from a store: how far it is, how long it may take, whether it is to stop."""

from __future__ import annotations

import threading
import time

from dsfn.functions.errors import DsfnError, StoreUnavailable


class Transfer:
    """Shared by the threads of one copy and by whoever watches or stops it.

    `total_bytes` is known once the snapshot's manifest is. `what` is copied: a snapshot, mostly.
    """

    def __init__(self, timeout_s: float, what: str = "the snapshot") -> None:
        self.total_bytes = 0
        self._what = what
        self._timeout_s = timeout_s
        self._ends_at_s = time.monotonic() + timeout_s
        self._done_bytes = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._error: DsfnError | None = None

    @property
    def done_bytes(self) -> int:
        """What has been copied so far."""
        return self._done_bytes

    def advance(self, size_bytes: int) -> None:
        """So much more is copied; less than nothing when it has to be copied again."""
        with self._lock:
            self._done_bytes += size_bytes

    def stop(self, error: DsfnError | None = None) -> None:
        """Has every thread of the copy raise `error`; the first one told is kept."""
        with self._lock:
            if self._error is None:
                self._error = error or StoreUnavailable(
                    f"The copy of {self._what} was stopped.", reason="stopped", retry_after_s=1
                )
        self._stopped.set()

    def check(self) -> None:
        """Raises what it was stopped with, or `StoreUnavailable` when its time is over."""
        if self._error is not None:
            raise self._error
        if time.monotonic() >= self._ends_at_s:
            raise StoreUnavailable(
                f"Copying {self._what} took longer than {self._timeout_s:g} s.",
                reason="timeout",
                retry_after_s=60,
            )

    def pause(self, seconds: float) -> None:
        """Waits, unless it is stopped meanwhile. Raises as `check`."""
        self._stopped.wait(min(seconds, max(0.0, self._ends_at_s - time.monotonic())))
        self.check()
