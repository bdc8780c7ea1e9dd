"""One holding of devices by one replica: a timeline of whole microseconds without gaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Literal, NamedTuple

from dsfn.billing.interval import Interval, Reason
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.splitting import at_midnights
from dsfn.billing.usage import Usage
from dsfn.functions.values import dataclass
from dsfn.runtime.clock import Clock
from dsfn.runtime.leases.sharing import Share, Sharing

# A replica that comes to rest has its time written down, at most this often.
REST_US = 1_000_000
# The number of the row that closes a lease: of a lease it is posted once, whoever comes to it.
_LAST = 0

_Key = tuple[Literal["restore", "idle"], Reason, str]
_STARTING: _Key = ("restore", "start", "")
_RESTORED: _Key = ("restore", "restore", "")
_IDLE: _Key = ("idle", "idle", "")
_LOST: _Key = ("idle", "fault", "")


@dataclass(frozen=True, slots=True)
class Subject:
    """Which replica holds which devices: what all rows of a lease say."""

    lease: str
    device: str
    devices: int
    device_class: str
    function: str
    revision: str

    def interval(
        self, number: int, key: _Key | None, started_at_us: int, duration_us: int
    ) -> Interval:
        """A row of the lease; without a key it is of the time as a whole."""
        kind, reason, tenant = key or ("held", "", "")
        return Interval(
            kind=kind,
            id=f"{self.lease}/{number}",
            lease=self.lease,
            device=self.device,
            devices=self.devices,
            device_class=self.device_class,
            function=self.function,
            revision=self.revision,
            tenant=tenant,
            started_at_us=started_at_us,
            duration_us=duration_us,
            reason=reason,
            closes=number == _LAST,
        )


class Held(NamedTuple):
    """What a call held its replica for, as the books have it: of a call that went on over
    midnight, exactly its part before that is before that."""

    started_at_us: int
    held_us: int


@dataclass(eq=False, slots=True)
class Slot:
    """One call's place in a lease, from its reservation until its row is posted. `before`: the
    midnight that it went on over, and what it had held by then. `restore_us`: what of the restore
    it pays for, which ended at `restored_us`."""

    lease: DeviceLease
    entered_us: int
    share: Share
    held_us: int = 0
    before: tuple[int, int] | None = None
    restore_us: int = 0
    restored_us: int = 0
    settled: bool = False
    released: bool = False

    def weigh(self, weight: int) -> None:
        """From now on the call has this part of the replica's time."""
        self.lease.weigh(self, weight)

    def so_far(self) -> Held:
        """What it has held up to now."""
        return self.lease.so_far(self)

    def waited(self, waited_us: int) -> None:
        """The call waited for so long until the replica was restored: it pays for as much of the
        restore, `restore_us`, unless that is written already."""
        self.lease.waited(self, waited_us)

    def pay_restore(self, tenant: str) -> int:
        """The call is over, and this tenant, "" for the platform, pays for what of the restore it
        waited for; how many microseconds of it the call is charged for."""
        return self.lease.pay_restore(self, tenant)

    def settle(self, limit_us: int | None = None) -> Held:
        """What the call is to be charged: what it has held up to now, at most `limit_us`. What it
        still holds after this is the platform's. Its row must be posted, or said to be lost."""
        return self.lease.settle(self, limit_us)

    def release(self) -> None:
        """The worker is done with the call."""
        self.lease.release(self)

    def discard(self) -> None:
        """There was no call after all."""
        self.lease.pay_restore(self, "")
        self.lease.settle(self, 0)
        self.lease.release(self)
        self.lease.posted()


@dataclass(eq=False, slots=True)
class DeviceLease:
    """Time of a replica on its devices, all of it divided among a start, calls and idling.

    It begins with the start or the restore of the replica on the devices. `write` takes rows to be
    posted. The time of the day is that of the lease's beginning, and of a clock that never goes
    back since.
    """

    subject: Subject
    clock: Clock
    write: Callable[[Interval], None]
    _utc_us: int = field(init=False)
    _at_us: int = field(init=False)
    _written_us: int = field(init=False)
    _midnight_us: int = field(init=False)
    _starting: bool = True
    _ended: bool = False
    # What time without calls is.
    _idling: _Key = _IDLE
    _sharing: Sharing = field(default_factory=Sharing)
    _slots: dict[Slot, None] = field(default_factory=dict)
    # Calls whose rows are not posted.
    _owed: int = 0
    # What is not written yet, but for "held": for each key when it began, and how long it was.
    _parts: dict[_Key, list[int]] = field(default_factory=dict)
    _rows: int = _LAST

    def __post_init__(self) -> None:
        self._utc_us = self.clock.now_us() - self.clock.monotonic_ns() // 1000
        self._at_us = self._written_us = self._now()
        self._midnight_us = (self._at_us // DAY_US + 1) * DAY_US

    # The replica's life.

    def ready(self, restore_us: int | None = None) -> None:
        """The replica takes calls. The last `restore_us` of its start restored a snapshot; None
        is all of it."""
        self._pass_time()
        self._starting = False
        _, start_us = self._parts.pop(_STARTING, (0, 0))
        restore_us = start_us if restore_us is None else min(restore_us, start_us)
        self._add(_STARTING, start_us - restore_us, self._at_us - restore_us)
        self._add(_RESTORED, restore_us, self._at_us)

    def keep(self, tenant: str) -> None:
        """From now on this tenant pays for the time in which no call runs; "" is nobody."""
        idling: _Key = ("idle", "keep-warm", tenant) if tenant else _IDLE
        if idling != self._idling:
            self._pass_time()
            self._idling = idling

    def flush(self) -> None:
        """Writes down all time up to now, but for that of calls, which have rows of their own."""
        if not self._ended:
            self._pass_time()
            self._write_up_to(self._at_us)

    def end(self) -> None:
        """The devices are free. A start that has come to no end was in vain, and what calls go
        on to hold is nothing; once all their rows are posted the lease is closed."""
        if self._ended:
            return
        self._pass_time()
        if self._starting:
            _, lost_us = self._parts.pop(_STARTING, (0, 0))
            self._add(("restore", "fault", ""), lost_us, self._at_us)
        self._take_all()
        for slot in self._slots:
            slot.released = True
        self._slots.clear()
        self._ended = True
        self._close_if_settled()

    # Calls.

    def enter(self) -> Slot:
        """A call begins to hold the replica."""
        self._pass_time()
        slot = Slot(self, self._at_us, self._sharing.enter())
        self._slots[slot] = None
        self._owed += 1
        return slot

    def weigh(self, slot: Slot, weight: int) -> None:
        """See `Slot`."""
        if not slot.released:
            self._pass_time()
            self._sharing.weigh(slot.share, weight)

    def waited(self, slot: Slot, waited_us: int) -> None:
        """See `Slot`. Its part of the restore is the last, and is written once it is over."""
        start_us, restore_us = self._parts.pop(_RESTORED, (0, 0))
        slot.restore_us = min(waited_us, restore_us)
        slot.restored_us = start_us + restore_us
        self._add(_RESTORED, restore_us - slot.restore_us, slot.restored_us - slot.restore_us)

    def pay_restore(self, slot: Slot, tenant: str) -> int:
        """See `Slot`."""
        restore_us, slot.restore_us = slot.restore_us, 0
        if restore_us:
            key: _Key = ("restore", "restore", tenant)
            self._write(key, slot.restored_us - restore_us, restore_us)
        return restore_us if tenant else 0

    def so_far(self, slot: Slot) -> Held:
        """See `Slot`."""
        self._take(slot)
        return Held(slot.entered_us, slot.held_us)

    def settle(self, slot: Slot, limit_us: int | None) -> Held:
        """See `Slot`."""
        self._take(slot)
        slot.settled = True
        held_us = slot.held_us if limit_us is None else min(slot.held_us, limit_us)
        lost_us = slot.held_us - held_us
        if slot.before is None:
            self._add(_LOST, lost_us, self._at_us)
            return Held(slot.entered_us, held_us)
        midnight_us, before_us = slot.before
        started_at_us = midnight_us - min(before_us, held_us)
        lost_before_us = max(0, before_us - held_us)
        if lost_before_us:
            self._write(_LOST, midnight_us - lost_before_us, lost_before_us)
        self._add(_LOST, lost_us - lost_before_us, self._at_us)
        return Held(started_at_us, held_us)

    def release(self, slot: Slot) -> None:
        """See `Slot`."""
        if slot.released:
            return
        self._pass_time()
        slot.released = True
        del self._slots[slot]
        self._got(slot, self._sharing.leave(slot.share))
        if not self._slots and self._at_us - self._written_us >= REST_US:
            self._write_up_to(self._at_us)

    def posted(self) -> None:
        """The row of a call is in the ledger."""
        self._owed -= 1
        self._close_if_settled()

    def lost(self, row: Usage) -> None:
        """The row of a call will never be in the ledger: its time is the platform's."""
        for at_us, duration_us in at_midnights(row.started_at_us, row.held_us):
            if duration_us:
                self._write(_LOST, at_us, duration_us)
        self.posted()

    # Time.

    def _now(self) -> int:
        return self._utc_us + self.clock.monotonic_ns() // 1000

    def _pass_time(self) -> None:
        """Divides the time up to now, each day for itself."""
        if self._ended:
            return
        now_us = self._now()
        while now_us >= self._midnight_us:
            self._pass_up_to(self._midnight_us)
            self._take_all()
            self._note_midnight()
            self._write_up_to(self._midnight_us)
            self._midnight_us += DAY_US
        self._pass_up_to(now_us)

    def _pass_up_to(self, to_us: int) -> None:
        duration_us, self._at_us = to_us - self._at_us, to_us
        if self._sharing.holders:
            self._sharing.advance(duration_us)
        else:
            self._add(_STARTING if self._starting else self._idling, duration_us, to_us)

    def _take(self, slot: Slot) -> None:
        if not slot.released:
            self._pass_time()
            self._got(slot, self._sharing.take(slot.share))

    def _take_all(self) -> None:
        """All that was shared up to now becomes whole microseconds of somebody."""
        slots = list(self._slots)
        for slot in slots[:-1]:
            self._got(slot, self._sharing.take(slot.share))
        for slot in slots[-1:]:
            self._got(slot, self._sharing.take_rest(slot.share))

    def _got(self, slot: Slot, held_us: int) -> None:
        if slot.settled:
            self._add(_LOST, held_us, self._at_us)
        else:
            slot.held_us += held_us

    def _note_midnight(self) -> None:
        """Of two midnights, one that begins a month is the one that counts: bills are monthly."""
        begins_month = Month.containing(self._at_us).start_us == self._at_us
        for slot in self._slots:
            if slot.before is None or begins_month:
                slot.before = (self._at_us, slot.held_us)

    # Rows.

    def _add(self, key: _Key, duration_us: int, end_us: int) -> None:
        """More of the same, up to `end_us`. It is one row from when the first of it began, or so
        long before its end that all of it has room."""
        if not duration_us:
            return
        part = self._parts.get(key)
        if part is None:
            self._parts[key] = [end_us - duration_us, duration_us]
        else:
            part[1] += duration_us
            part[0] = min(part[0], end_us - part[1])

    def _write_up_to(self, at_us: int) -> None:
        self._write_parts()
        if at_us > self._written_us:
            self._rows += 1
            duration_us = at_us - self._written_us
            self.write(self.subject.interval(self._rows, None, self._written_us, duration_us))
            self._written_us = at_us

    def _write_parts(self) -> None:
        parts, self._parts = self._parts, {}
        for key, (start_us, duration_us) in parts.items():
            self._write(key, start_us, duration_us)

    def _write(self, key: _Key, start_us: int, duration_us: int) -> None:
        self._rows += 1
        self.write(self.subject.interval(self._rows, key, start_us, duration_us))

    def _close_if_settled(self) -> None:
        if self._ended and not self._owed:
            self._write_parts()
            start_us = self._written_us
            self.write(self.subject.interval(_LAST, None, start_us, self._at_us - start_us))
