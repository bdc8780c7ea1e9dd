"""Which replica leads: whoever holds the Lease, for as long as it renews it.

A leader that cannot renew ends itself before another may take the Lease. Should it be too slow even
for that, the journal keeps it from writing anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.knative.control.lease import LEASE_S, Held, Lease

RENEW_EVERY_S = 5.0
# A leader ends so long after it began to renew for the last time: sooner than the Lease.
GIVE_UP_S = LEASE_S - 3.0
_LOOK_EVERY_S = 0.5
_WATCH_EVERY_S = 0.5
_LOG = logging.getLogger("dsfn.control")

End = Callable[[str], None]
"""Ends this process at once, and says why."""


@dataclass(eq=False)
class Leadership:
    """A replica's part in it, in threads of its own.

    `name`: the replica's, the same when its container is started again: what it held is its own
    then. `url`: at which the other calls it. `may_lead`: whether it could lead now; raises why not.
    """

    lease: Lease
    name: str
    url: str
    may_lead: Callable[[], None]
    end: End
    # Where the leader is called, None while there is none.
    leader_url: str | None = None
    _leads: bool = False
    _renewed_at_s: float = 0.0
    _told: str = ""
    _seen: Held | None = None
    _seen_at_s: float = 0.0
    _has_resigned: bool = False
    _closed: threading.Event = field(default_factory=threading.Event)
    # Set when a turn is not to be waited for.
    _soon: threading.Event = field(default_factory=threading.Event)
    _turns: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, won: Callable[[], None]) -> None:
        """Begins. `won` is called once, in a thread, when this replica leads."""
        works = (lambda: self._run(won), self._watch)
        self._threads = [threading.Thread(target=each, name="lease", daemon=True) for each in works]
        for thread in self._threads:
            thread.start()

    def resign(self) -> None:
        """Leaves the Lease to the other, and goes on looking who that is."""
        with self._turns:
            was_leading, self._leads = self._leads, False
            self._has_resigned, self.leader_url = True, None
            if was_leading:
                with suppress(DsfnError):
                    held = self.lease.read()
                    if held is not None and held.holder == self.name:
                        self.lease.release(held)
        self._soon.set()

    def close(self) -> None:
        """Looks no more."""
        self._closed.set()
        self._soon.set()
        for thread in self._threads:
            thread.join()

    def _run(self, won: Callable[[], None]) -> None:
        while not self._closed.is_set():
            pause_s = _LOOK_EVERY_S
            try:
                with self._turns:
                    led = self._leads
                    self._turn()
                    begins = self._leads and not led
            except DsfnError as error:
                # The other may have been faster, among other things.
                self._tell(error.message)
            except Exception as error:  # noqa: BLE001
                # Without this thread a replica would stand by for ever.
                self.end(f"{type(error).__name__}: {error}")
                return
            else:
                self._told = ""
                pause_s = RENEW_EVERY_S if self._leads else _LOOK_EVERY_S
                if begins:
                    won()
            self._soon.wait(pause_s)
            self._soon.clear()

    def _turn(self) -> None:
        began_s = time.monotonic()
        held = self.lease.read()
        if held != self._seen:
            self._seen, self._seen_at_s = held, began_s
        is_own = held is not None and held.holder == self.name
        if self._leads and not is_own:
            self.end("Another replica leads.")
        if held is not None and held.holder and not is_own:
            if began_s - self._seen_at_s < LEASE_S:
                self.leader_url = held.url
                return
        if not self._leads:
            self.leader_url = None
            if self._has_resigned:
                return
            self.may_lead()
        self.lease.hold(held, self.name, self.url)
        self._renewed_at_s, self._leads, self.leader_url = began_s, True, self.url

    def _tell(self, why: str) -> None:
        """Says why a turn failed, unless the one before failed for the same."""
        if why != self._told:
            _LOG.warning("%s", why)
            self._told = why

    def _watch(self) -> None:
        while not self._closed.wait(_WATCH_EVERY_S):
            if self._leads and time.monotonic() - self._renewed_at_s > GIVE_UP_S:
                self.end("The Lease could not be renewed.")
