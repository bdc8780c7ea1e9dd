"""What allowances, tiers, discounts, minimums and tax change about the list price."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from dsfn.billing.lines import By, Kind, Line, Priced, usage_lines
from dsfn.billing.money import ATTO_PER_NANO, atto_per_minor, half_even, minor_text
from dsfn.billing.rates import Rate

_WHOLE_POINTS = 10_000
_Device = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Quantity:
    """How much of a device class a tenant used."""

    requests: int = 0
    quantity_us: int = 0


@dataclass(slots=True)
class _Bill:
    """The lines of one tenant, as they are found."""

    usage: list[Line] = field(default_factory=list)
    adjustments: list[Line] = field(default_factory=list)


def lines_of(stretches: Sequence[Priced], by: By) -> tuple[Line, ...]:
    """The lines of a month whose stretches are in order, tenant by tenant: usage, then
    adjustments."""
    usage = [list(usage_lines(stretch, by)) for stretch in stretches]
    month = _by_device(line for lines in usage for line in lines)
    before: dict[_Device, _Quantity] = defaultdict(_Quantity)
    bills: dict[str, _Bill] = defaultdict(_Bill)
    for stretch, lines in zip(stretches, usage, strict=True):
        for device, own in _by_device(lines).items():
            bill, used = bills[device[0]], _sum(own)
            bill.usage += own
            adjusting = _Adjusting(
                stretch, device, before[device], used, _sum(month[device]).quantity_us
            )
            bill.adjustments += adjusting.lines(_due(own))
            before[device] = _plus(before[device], used)
    return tuple(line for name in sorted(bills) for line in _tenant(name, bills[name], stretches))


def _tenant(name: str, bill: _Bill, stretches: Sequence[Priced]) -> list[Line]:
    """A tenant's lines with discounts, the minimum and tax. Those are about the lines before as
    they are rounded, so that whoever reads the bill can calculate them."""
    lines = [*sorted(bill.usage, key=_order), *bill.adjustments]
    for stretch in stretches:
        points = stretch.card.discounts.get(name, 0)
        lines += _share("discount", name, stretch, lines, -points, percent(points))
    last = stretches[-1]
    lacking_minor = last.card.minimum_minor - _due(lines)
    if lacking_minor > 0:
        atto = lacking_minor * atto_per_minor(last.card.exponent)
        lines.append(_adjustment("minimum", name, last, atto, "the least for a month"))
    for stretch in stretches:
        points = stretch.card.tax_of(name)
        note = f"{stretch.card.tax_name} {percent(points)}"
        lines += _share("tax", name, stretch, lines, points, note)
    return lines


@dataclass(frozen=True, slots=True)
class _Adjusting:
    """What allowance and tiers change about a tenant's use of one device class under one card.

    `before`: what the month had already, under earlier cards; `used`: what came now. The first
    `free_us` and `free_requests` of a month are free; tiers count the free time, too.
    """

    stretch: Priced
    device: _Device
    before: _Quantity
    used: _Quantity
    month_us: int

    def lines(self, due_minor: int) -> list[Line]:
        """The lines that change something. Together they take no more than `due_minor`, what
        the usage is by the list: rounding alone must not make a bill negative."""
        found: list[Line] = []
        for line in (self._allowance(), self._tier()):
            if line.amount_nano or line.amount_minor:
                minor = max(line.amount_minor, -due_minor - _due(found))
                found.append(replace(line, amount_minor=minor))
        return found

    def _allowance(self) -> Line:
        free = self._free()
        atto = -self._rate.amount_atto(free.quantity_us, free.requests)
        return self._line("allowance", free, atto, "free of charge")

    def _tier(self) -> Line:
        rate, free = self._rate, self._free()
        left_us = self.used.quantity_us - free.quantity_us
        before_us = self.before.quantity_us + free.quantity_us
        atto = rate.tiered_atto(before_us, left_us, self.month_us)
        atto -= rate.amount_atto(left_us, requests=0)
        return self._line("tier", _Quantity(0, left_us), atto, f"{rate.tiering} tiers")

    @property
    def _rate(self) -> Rate:
        return self.stretch.card.rate(self.device[1])

    def _free(self) -> _Quantity:
        rate = self._rate
        return _Quantity(
            min(self.used.requests, max(0, rate.free_requests - self.before.requests)),
            min(self.used.quantity_us, max(0, rate.free_us - self.before.quantity_us)),
        )

    def _line(self, kind: Kind, quantity: _Quantity, atto: int, note: str) -> Line:
        return replace(
            _adjustment(kind, self.device[0], self.stretch, atto, note),
            device_class=self.device[1],
            requests=quantity.requests,
            quantity_us=quantity.quantity_us,
        )


def _share(
    kind: Kind, tenant: str, stretch: Priced, lines: Iterable[Line], points: int, note: str
) -> Iterator[Line]:
    """A part, in basis points, of what is due under one card; nothing when that is 0."""
    due_minor = _due(line for line in lines if line.card == stretch.card.number)
    if points and due_minor:
        # 10^exponent divides 10^18 with enough to spare for basis points: nothing is lost.
        atto = due_minor * points * (atto_per_minor(stretch.card.exponent) // _WHOLE_POINTS)
        yield _adjustment(kind, tenant, stretch, atto, note)


def _adjustment(kind: Kind, tenant: str, stretch: Priced, atto: int, note: str) -> Line:
    return Line(
        kind=kind,
        tenant=tenant,
        function=None,
        revision=None,
        day=None,
        device_class=None,
        card=stretch.card.number,
        requests=0,
        quantity_us=0,
        busy_us=0,
        held_us=0,
        restore_us=0,
        amount_nano=half_even(atto, ATTO_PER_NANO),
        amount_minor=half_even(atto, atto_per_minor(stretch.card.exponent)),
        note=note,
    )


def percent(points: int) -> str:
    """Basis points as percent: 1925 is "19.25 %"."""
    text = minor_text(points, 2)
    return f"{text.rstrip('0').rstrip('.')} %"


def _by_device(lines: Iterable[Line]) -> dict[_Device, list[Line]]:
    found: dict[_Device, list[Line]] = defaultdict(list)
    for line in lines:
        found[line.tenant, line.device_class or ""].append(line)
    return dict(sorted(found.items()))


def _order(line: Line) -> tuple[str, str, str, str, int]:
    return (
        line.function or "",
        line.revision or "",
        line.day or "",
        line.device_class or "",
        line.card,
    )


def _sum(lines: Iterable[Line]) -> _Quantity:
    total = _Quantity()
    for line in lines:
        total = _plus(total, _Quantity(line.requests, line.quantity_us))
    return total


def _plus(one: _Quantity, other: _Quantity) -> _Quantity:
    return _Quantity(one.requests + other.requests, one.quantity_us + other.quantity_us)


def _due(lines: Iterable[Line]) -> int:
    return sum(line.amount_minor for line in lines)
