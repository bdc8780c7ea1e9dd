"""The journal's rows: each is one transfer of an amount from one account to another.

What is posted becomes one entry, or two where it moves two amounts. Entries are plain tuples,
because a busy ledger makes tens of thousands of them in a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from dsfn.billing import accounts
from dsfn.billing.charge import Charge
from dsfn.billing.interval import Interval
from dsfn.billing.periods import DAY_US, Month
from dsfn.billing.posting import Posting
from dsfn.billing.record import Record
from dsfn.billing.reservation import Reservation
from dsfn.billing.usage import Usage

CLOSED = "closed"
# What an entry's id is an id of: two entries never have tenant, source and id in common.
USAGE = "usage"
INTERVAL = "interval"
RESERVATION = "reservation"
SETTLEMENT = "settlement"
DOCUMENT = "document"
ROUNDING = "rounding"
# The restore of a call whose lease is not known: it has no interval of its own.
RESTORE = "restore"
REVERSAL = "reversal"
WAIVER = "waiver"


class Entry(NamedTuple):
    """One row of the journal, in the order of its canonical bytes.

    `busy_us`, `held_us` and `restore_us` are as posted, wall time of one device; `amount` is what
    moves from account `credit` to account `debit`, in microseconds x devices or in nano-units.
    `status`: a call's; of a "held" row "closed" where it is the last of its lease. `error`: the
    error's class, an interval's reason or a document's note. `period`: the month in which it is
    billed. `docs/ledger-format.md` has every field.
    """

    devices: int
    started_at_us: int
    busy_us: int
    held_us: int
    restore_us: int
    amount: int
    kind: str
    tenant: str
    source: str
    id: str
    key_id: str
    caller: str
    function: str
    revision: str
    workflow: str
    run: str
    step: str
    device: str
    device_class: str
    lease: str
    debit: str
    credit: str
    commodity: str
    status: str
    error: str
    idempotency_key: str
    reverses: str
    period: str


COLUMNS = Entry._fields


def getter(*names: str) -> Callable[[Entry], tuple[Any, ...]]:
    """Gives some fields of an entry, several times as fast as reading them one by one."""
    return itemgetter(*map(COLUMNS.index, names))


def entries_of(posting: Posting, closed_until_us: int) -> tuple[Entry, ...]:
    """The entries that a posting becomes. `closed_until_us`: the end of the last closed month."""
    match posting:
        case Usage():
            return _of_usage(posting, closed_until_us)
        case Interval():
            return (_of_interval(posting, closed_until_us),)
        case Reservation():
            return (_of_reservation(posting),)
        case Charge():
            return _of_charge(posting)
        case Record():
            return (_of_record(posting),)


def period_of(instant_us: int, closed_until_us: int) -> str:
    """The month in which something is billed: its own, or the first open one."""
    day = max(instant_us, closed_until_us) // DAY_US
    period = _PERIODS.get(day)
    if period is None:
        if len(_PERIODS) >= _MAX_PERIODS:
            _PERIODS.clear()
        period = _PERIODS[day] = Month.containing(day * DAY_US).text
    return period


def reversal_of(entry: Entry, closed_until_us: int, by: str) -> Entry:
    """The entry that takes another one back. `by`: the id of what replaces it."""
    return entry._replace(
        kind="reversal",
        source=REVERSAL,
        debit=entry.credit,
        credit=entry.debit,
        error=by,
        reverses=entry.id,
        period=period_of(entry.started_at_us, closed_until_us),
    )


def waiver_of(entry: Entry, new: Entry) -> Entry:
    """The entry that gives the platform what a call is no longer charged of its restore, the row
    of which stays: the device was held for it. `new` stands in for `entry`."""
    return _EMPTY._replace(
        devices=entry.devices,
        started_at_us=entry.started_at_us,
        amount=(entry.restore_us - new.restore_us) * entry.devices,
        kind="waiver",
        tenant=entry.tenant,
        source=WAIVER,
        id=new.id,
        debit=accounts.RESTORES,
        credit=f"tenant/{entry.tenant}",
        commodity=entry.commodity,
        error=new.error,
        reverses=entry.id,
        period=new.period,
    )


def usage_of(entry: Entry) -> Usage:
    """The call that an entry of kind "usage" is about."""
    return Usage(
        invocation_id=entry.id,
        tenant=entry.tenant,
        caller=entry.caller,
        function=entry.function,
        revision=entry.revision,
        device_class=entry.device_class,
        started_at_us=entry.started_at_us,
        busy_us=entry.busy_us,
        held_us=entry.held_us,
        restore_us=entry.restore_us,
        status=entry.status,  # type: ignore[arg-type]
        error=entry.error,
        idempotency_key=entry.idempotency_key,
        device=entry.device,
        lease=entry.lease,
        devices=entry.devices,
        key_id=entry.key_id,
        workflow=entry.workflow,
        run=entry.run,
        step=entry.step,
    )


def interval_of(entry: Entry) -> Interval:
    """The interval that an entry of kind "held", "restore" or "idle" is about."""
    return Interval(
        kind=entry.kind,  # type: ignore[arg-type]
        id=entry.id,
        lease=entry.lease,
        device=entry.device,
        devices=entry.devices,
        device_class=entry.device_class,
        function=entry.function,
        revision=entry.revision,
        tenant=entry.tenant,
        started_at_us=entry.started_at_us,
        duration_us=entry.held_us,
        reason=entry.error,  # type: ignore[arg-type]
        closes=entry.status == CLOSED,
    )


def reservation_of(entry: Entry) -> Reservation:
    """The reservation that an entry of kind "reserve", "post" or "void" is about."""
    return Reservation(
        kind=entry.kind,  # type: ignore[arg-type]
        id=entry.id,
        tenant=entry.tenant,
        key_id=entry.key_id,
        currency=accounts.currency_of(entry.commodity),
        amount_nano=entry.amount,
        at_us=entry.started_at_us,
    )


def _of_usage(usage: Usage, closed_until_us: int) -> tuple[Entry, ...]:
    period = period_of(usage.started_at_us, closed_until_us)
    rejected = usage.status == "rejected"
    accounts_of = accounts.of_call(usage.status, usage.tenant, usage.lease, usage.device_class)
    # Its own way to be made takes a named tuple as long as all else that is done here.
    values = (
        usage.devices,
        usage.started_at_us,
        usage.busy_us,
        usage.held_us,
        usage.restore_us,
        0 if rejected else usage.held_us * usage.devices,
        "usage",
        usage.tenant,
        USAGE,
        usage.invocation_id,
        usage.key_id,
        usage.caller,
        usage.function,
        usage.revision,
        usage.workflow,
        usage.run,
        usage.step,
        usage.device,
        usage.device_class,
        usage.lease,
        *accounts_of,
        usage.status,
        usage.error,
        usage.idempotency_key,
        "",
        period,
    )
    entry = tuple.__new__(Entry, values)
    if usage.lease or not usage.restore_us or rejected:
        return (entry,)
    return entry, _unleased_restore(entry)


def _unleased_restore(usage: Entry) -> Entry:
    """The restore of a call without a lease: the device's account has it all the same."""
    return usage._replace(
        kind="restore",
        source=RESTORE,
        busy_us=0,
        held_us=usage.restore_us,
        restore_us=0,
        amount=usage.restore_us * usage.devices,
        status="",
        error="",
        idempotency_key="",
    )


def _of_interval(interval: Interval, closed_until_us: int) -> Entry:
    debit, credit = accounts.of_interval(interval)
    return _EMPTY._replace(
        devices=interval.devices,
        started_at_us=interval.started_at_us,
        held_us=interval.duration_us,
        amount=interval.duration_us * interval.devices,
        kind=interval.kind,
        tenant=interval.tenant,
        source=INTERVAL,
        id=interval.id,
        function=interval.function,
        revision=interval.revision,
        device=interval.device,
        device_class=interval.device_class,
        lease=interval.lease,
        debit=debit,
        credit=credit,
        commodity=accounts.time_of(interval.device_class),
        status=CLOSED if interval.closes else "",
        error=interval.reason,
        period=period_of(interval.started_at_us, closed_until_us),
    )


def _of_reservation(reservation: Reservation) -> Entry:
    debit, credit = accounts.of_reservation(reservation)
    return _EMPTY._replace(
        started_at_us=reservation.at_us,
        amount=reservation.amount_nano,
        kind=reservation.kind,
        tenant=reservation.tenant,
        source=RESERVATION if reservation.kind == "reserve" else SETTLEMENT,
        id=reservation.id,
        key_id=reservation.key_id,
        debit=debit,
        credit=credit,
        commodity=accounts.money_of(reservation.currency),
        period=period_of(reservation.at_us, 0),
    )


def _of_charge(charge: Charge) -> tuple[Entry, ...]:
    debit, credit = accounts.of_charge(charge)
    entry = _EMPTY._replace(
        started_at_us=charge.at_us,
        amount=charge.amount_nano,
        kind=charge.kind,
        tenant=charge.tenant,
        source=DOCUMENT,
        id=charge.id,
        debit=debit,
        credit=credit,
        commodity=accounts.money_of(charge.currency),
        error=charge.note,
        reverses=charge.reverses,
        period=charge.period,
    )
    if not charge.rounding_nano:
        return (entry,)
    debit, credit = accounts.of_rounding(charge)
    amount = abs(charge.rounding_nano)
    return entry, entry._replace(source=ROUNDING, amount=amount, debit=debit, credit=credit)


def _of_record(record: Record) -> Entry:
    return _EMPTY._replace(
        started_at_us=record.at_us,
        kind=record.kind,
        source=DOCUMENT,
        id=record.id,
        debit=accounts.RECORDS,
        credit=accounts.RECORDS,
        commodity=accounts.NOTHING,
        reverses=record.sha256,
        period=record.period,
    )


_EMPTY = Entry._make([1, *[0] * 5, *[""] * (len(COLUMNS) - 6)])
# Months by day: nearly all that is posted belongs to today.
_PERIODS: dict[int, str] = {}
_MAX_PERIODS = 1000

Entries = Sequence[Entry]
