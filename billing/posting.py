"""Everything that can be posted to a ledger."""

from __future__ import annotations

from dsfn.billing.charge import Charge
from dsfn.billing.interval import Interval
from dsfn.billing.record import Record
from dsfn.billing.reservation import Reservation
from dsfn.billing.usage import Usage

Posting = Usage | Interval | Reservation | Charge | Record
