"""The accounts of the ledger: where time and money come from and go to.

    capacity/<class>  -> lease/<lease>       the devices that a replica holds
    lease/<lease>     -> tenant/<tenant>     calls, and what is kept warm for somebody
                      -> platform/...        faults, idle time and restores that nobody pays
    tenant/<tenant>   -> platform/restore    what a correction takes off a restore
    budget/<tenant>  <-> reserved/<tenant>   money set aside while a call runs
    revenue          <-> receivable/<tenant> invoices and credit notes; `rounding` for the rest
    records                                  what moves nothing, but is to be remembered

Time is counted by device class, in microseconds x devices; money by currency, in nano-units.
Every entry takes from one account what it gives another, so a closed lease comes to zero.
"""

from __future__ import annotations

from functools import lru_cache

from dsfn.billing.charge import Charge
from dsfn.billing.interval import Interval
from dsfn.billing.reservation import Reservation

FAULTS = "platform/faults"
RESTORES = "platform/restore"
REVENUE = "revenue"
ROUNDING = "rounding"
RECORDS = "records"
NOTHING = "nothing"
_LEASE = "lease/"
_MONEY = "nano:"
# A lease has many calls.
_MAX_CACHED = 4096


@lru_cache(_MAX_CACHED)
def of_call(status: str, tenant: str, lease: str, device_class: str) -> tuple[str, str, str]:
    """The accounts to which and from which a call's time goes, and what this is; a call without a
    lease takes it from the devices."""
    debit = FAULTS if status == "platform" else f"tenant/{tenant}"
    credit = _LEASE + lease if lease else f"capacity/{device_class}"
    return debit, credit, time_of(device_class)


def of_interval(interval: Interval) -> tuple[str, str]:
    """The accounts to which and from which an interval goes."""
    lease = _LEASE + interval.lease
    if interval.kind == "held":
        return lease, f"capacity/{interval.device_class}"
    if interval.tenant:
        return f"tenant/{interval.tenant}", lease
    return FAULTS if interval.reason == "fault" else f"platform/{interval.kind}", lease


def of_reservation(reservation: Reservation) -> tuple[str, str]:
    """The accounts to which and from which a reservation goes."""
    reserved, budget = f"reserved/{reservation.tenant}", f"budget/{reservation.tenant}"
    return (reserved, budget) if reservation.kind == "reserve" else (budget, reserved)


def of_charge(charge: Charge) -> tuple[str, str]:
    """The accounts to which and from which the total of a document goes."""
    receivable = f"receivable/{charge.tenant}"
    return (receivable, REVENUE) if charge.kind == "invoice" else (REVENUE, receivable)


def of_rounding(charge: Charge) -> tuple[str, str]:
    """The accounts to which and from which a document's rounding goes: what an invoice has too
    much is no revenue."""
    adds = (charge.rounding_nano > 0) == (charge.kind == "invoice")
    return (REVENUE, ROUNDING) if adds else (ROUNDING, REVENUE)


def time_of(device_class: str) -> str:
    """The commodity that a device class's time is."""
    return f"us:{device_class}"


def money_of(currency: str) -> str:
    """The commodity that a currency is."""
    return _MONEY + currency


def currency_of(commodity: str) -> str:
    """The currency that a commodity is."""
    return commodity.removeprefix(_MONEY)


def lease_of(account: str) -> str | None:
    """The lease whose account this is."""
    return account.removeprefix(_LEASE) if account.startswith(_LEASE) else None
