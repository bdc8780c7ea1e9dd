"""A month's bill: what the ledger's rows cost by a rate card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

from dsfn.billing.ledger import SqliteLedger, UsageSum
from dsfn.billing.money import ATTO_PER_NANO, atto_per_minor, half_even
from dsfn.billing.periods import Month, day_text
from dsfn.billing.rates import RateCard
from dsfn.functions.errors import UsageError

By = Literal["function", "revision", "day"]
BYS: tuple[str, ...] = get_args(By)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill: the billed requests of one key and what they cost.

    `revision` is set when the bill is by revision, `day` ("YYYY-MM-DD") when it
    is by day. `quantity_us` is the time that the rate's basis bills.
    `amount_minor` is rounded half-even from the exact amount; so is
    `amount_nano`, which is there to look closer.
    """

    tenant: str
    function: str
    revision: str | None
    day: str | None
    device_class: str
    requests: int
    quantity_us: int
    busy_us: int
    held_us: int
    restore_us: int
    amount_nano: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """A device class's time, whoever paid: held = requests + restore + idle."""

    device_class: str
    held_us: int
    requests_us: int
    restore_us: int
    idle_us: int


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
        unused = {"function": ("revision", "day"), "revision": ("day",), "day": ("revision",)}
        lines = [asdict(line) for line in self.lines]
        for line in lines:
            for name in unused[self.by]:
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


def statement(ledger: SqliteLedger, card: RateCard, month: str, by: str = "function") -> Statement:
    """The bill of `month` ("YYYY-MM") by "function", "revision" or "day".

    The same rows and card give the same statement, whatever the order they were
    posted in. Raises `UsageError` for a month or a `by` that is none.
    """
    period, key = Month.parse(month), _by(by)
    sums = ledger.sums(period.start_us, period.end_us)
    lines = _lines(sums, card, key)
    return Statement(
        month=period.text,
        by=key,
        status="open",
        currency=card.currency,
        exponent=card.exponent,
        total_minor=sum(line.amount_minor for line in lines),
        lines=lines,
        devices=_devices(sums),
    )


class _Key(NamedTuple):
    """What a line is about, in the order of the lines."""

    tenant: str
    function: str
    revision: str
    day: str
    device_class: str


def _lines(sums: Iterable[UsageSum], card: RateCard, by: By) -> tuple[Line, ...]:
    groups: dict[_Key, list[UsageSum]] = defaultdict(list)
    for each in sums:
        if each.status in card.billed:
            revision = each.revision if by == "revision" else ""
            day = day_text(each.day) if by == "day" else ""
            key = _Key(each.tenant, each.function, revision, day, each.device_class)
            groups[key].append(each)
    return tuple(_line(key, groups[key], card, by) for key in sorted(groups))


def _line(key: _Key, group: list[UsageSum], card: RateCard, by: By) -> Line:
    rate = card.rate(key.device_class)
    requests = sum(each.requests for each in group)
    busy_us = sum(each.busy_us for each in group)
    held_us = sum(each.held_us for each in group)
    restore_us = sum(each.restore_us for each in group)
    quantity_us = rate.quantity_us(busy_us, held_us, restore_us)
    exact = rate.amount_atto(quantity_us, requests)
    return Line(
        tenant=key.tenant,
        function=key.function,
        revision=key.revision if by == "revision" else None,
        day=key.day if by == "day" else None,
        device_class=key.device_class,
        requests=requests,
        quantity_us=quantity_us,
        busy_us=busy_us,
        held_us=held_us,
        restore_us=restore_us,
        amount_nano=half_even(exact, ATTO_PER_NANO),
        amount_minor=half_even(exact, atto_per_minor(card.exponent)),
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
