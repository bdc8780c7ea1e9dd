"""A month's bill: what the ledger's rows cost by the rate cards in force."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from dsfn.billing.adjustments import lines_of
from dsfn.billing.ledger import DeviceTime, UsageSum
from dsfn.billing.lines import By, Line, Priced
from dsfn.billing.periods import Month
from dsfn.billing.rates import RateBook
from dsfn.billing.service import used_in
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.functions.errors import UsageError

BYS: tuple[str, ...] = get_args(By)
# What each kind of bill has no key for.
_UNUSED = {"function": ("revision", "day"), "revision": ("day",), "day": ("revision",)}


@dataclass(frozen=True, slots=True)
class Statement:
    """The bill of one month; `total_minor` is the sum of its lines."""

    month: str
    by: By
    status: Literal["open", "closed"]
    currency: str
    exponent: int
    total_minor: int
    lines: tuple[Line, ...]
    devices: tuple[DeviceTime, ...]

    def to_document(self) -> dict[str, Any]:
        """This statement as a JSON-able document; its lines have only the key they are by."""
        lines = [asdict(line) for line in self.lines]
        for line in lines:
            for name in _UNUSED[self.by]:
                del line[name]
        return {
            "month": self.month,
            "by": self.by,
            "status": self.status,
            "currency": self.currency,
            "exponent": self.exponent,
            "total_minor": self.total_minor,
            "lines": lines,
            "devices": [asdict(device) for device in self.devices],
        }


def statement(ledger: SqliteLedger, book: RateBook, month: str, by: str = "function") -> Statement:
    """The bill of `month` ("YYYY-MM") by "function", "revision" or "day".

    Each stretch of time is priced by the card in force in it. The same rows and cards give the
    same statement, whatever the order they were posted in. Raises `UsageError` for a month or a
    `by` that is none.
    """
    period, key = Month.parse(month), _by(by)
    stretches = [
        Priced(segment.card, tuple(used_in(ledger, book, segment)))
        for segment in book.segments(period.start_us, period.end_us)
    ]
    lines = lines_of(stretches, key)
    return Statement(
        month=period.text,
        by=key,
        status="open",
        currency=book.currency,
        exponent=book.exponent,
        total_minor=sum(line.amount_minor for line in lines),
        lines=lines,
        devices=_devices(each for stretch in stretches for each in stretch.sums),
    )


def _devices(sums: Iterable[UsageSum]) -> tuple[DeviceTime, ...]:
    requests_us: dict[str, int] = defaultdict(int)
    restore_us: dict[str, int] = defaultdict(int)
    for each in sums:
        requests_us[each.device_class] += each.held_us
        restore_us[each.device_class] += each.restore_us
    return tuple(
        DeviceTime(
            device_class=name,
            held_us=requests_us[name] + restore_us[name],
            requests_us=requests_us[name],
            restore_us=restore_us[name],
            idle_us=0,
        )
        for name in sorted(requests_us)
    )


def _by(text: str) -> By:
    match text:
        case "function" | "revision" | "day":
            return text
        case _:
            raise UsageError(f"A bill is by {', '.join(BYS)}, not by {text!r}.")
