"""What allowances, tiers, discounts, minimums and tax change about the list price."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import NamedTuple

from dsfn.billing.lines import Kind, Line, Priced, usage_lines
from dsfn.billing.money import ATTO_PER_NANO, atto_per_minor, half_even, percent
from dsfn.billing.rates import Rate
from dsfn.billing.selection import By
from dsfn.functions.values import dataclass

_WHOLE_POINTS = 10_000


class _Device(NamedTuple):
    """What a tenant's allowance and tiers are about: a device class in a month of service, None
    for the bill's own."""

    tenant: str
    device_class: str
    service_month: str | None


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


def lines_of(
    stretches: Sequence[Priced], by: By, billed: Sequence[Priced] = ()
) -> tuple[Line, ...]:
    """The lines of a month whose stretches are in order, tenant by tenant: usage, then
    adjustments.

    Late stretches, of months that were closed, come first; `billed` is what these months had
    when they were: allowances and tiers go on from there.
    """
    usage = [_by_device(usage_lines(stretch, "function")) for stretch in stretches]
    before = _quantities(_by_device(usage_lines(stretch, "function")) for stretch in billed)
    month = _quantities(usage, before)
    bills: dict[str, _Bill] = defaultdict(_Bill)
    for stretch, devices in zip(stretches, usage, strict=True):
        for device, lines in devices.items():
            used = _sum(lines)
            adjusting = _Adjusting(stretch, device, before[device], used, month[device].quantity_us)
            bills[device.tenant].adjustments += adjusting.lines(_due(lines))
            before[device] = _plus(before[device], used)
    for stretch in stretches:
        for line in usage_lines(stretch, by):
            bills[line.tenant].usage.append(line)
    return tuple(line for name in sorted(bills) for line in _tenant(name, bills[name], stretches))


def list_lines(stretches: Sequence[Priced], by: By) -> tuple[Line, ...]:
    """The lines of usage alone, at list price."""
    lines = (line for stretch in stretches for line in usage_lines(stretch, by))
    return tuple(sorted(lines, key=lambda line: (line.tenant, _order(line))))


def _tenant(name: str, bill: _Bill, stretches: Sequence[Priced]) -> list[Line]:
    """A tenant's lines with discounts, the minimum and tax. Those are about the lines before as
    they are rounded, so that whoever reads the bill can calculate them."""
    lines = [*sorted(bill.usage, key=_order), *bill.adjustments]
    for stretch in stretches:
        points = stretch.card.discounts.get(name, 0)
        lines += _share("discount", name, stretch, lines, -points, percent(points))
    own, last = [line for line in lines if line.service_month is None], stretches[-1]
    lacking_minor = last.card.minimum_minor - _due(own)
    if own and lacking_minor > 0:
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
        the usage is by the list: rounding alone must not turn an amount's sign."""
        found: list[Line] = []
        for line in (self._allowance(), self._tier()):
            if line.amount_nano or line.amount_minor:
                most = -due_minor - _due(found)
                minor = (max if due_minor >= 0 else min)(line.amount_minor, most)
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
        return self.stretch.card.rate(self.device.device_class)

    def _free(self) -> _Quantity:
        """How much more is free than before; less than nothing where usage was taken back."""
        rate, before, after = self._rate, self.before, _plus(self.before, self.used)
        return _Quantity(
            min(after.requests, rate.free_requests) - min(before.requests, rate.free_requests),
            min(after.quantity_us, rate.free_us) - min(before.quantity_us, rate.free_us),
        )

    def _line(self, kind: Kind, quantity: _Quantity, atto: int, note: str) -> Line:
        return replace(
            _adjustment(kind, self.device.tenant, self.stretch, atto, note),
            device_class=self.device.device_class,
            requests=quantity.requests,
            quantity_us=quantity.quantity_us,
        )


def _share(
    kind: Kind, tenant: str, stretch: Priced, lines: Iterable[Line], points: int, note: str
) -> Iterator[Line]:
    """A part, in basis points, of what is due under one card; nothing when that is 0."""
    about = (stretch.card.number, stretch.late)
    due_minor = _due(line for line in lines if (line.card, line.service_month) == about)
    if points and due_minor:
        # 10^exponent divides 10^18 with enough to spare for basis points: nothing is lost.
        atto = due_minor * points * (atto_per_minor(stretch.card.exponent) // _WHOLE_POINTS)
        yield _adjustment(kind, tenant, stretch, atto, note)


def _adjustment(kind: Kind, tenant: str, stretch: Priced, atto: int, note: str) -> Line:
    return Line(
        kind=kind,
        tenant=tenant,
        card=stretch.card.number,
        amount_nano=half_even(atto, ATTO_PER_NANO),
        amount_minor=half_even(atto, atto_per_minor(stretch.card.exponent)),
        note=note,
        service_month=stretch.late,
    )


_Usage = dict[_Device, list[Line]]


def _by_device(lines: Iterable[Line]) -> _Usage:
    found: _Usage = defaultdict(list)
    for line in lines:
        found[_Device(line.tenant, line.device_class or "", line.service_month)].append(line)
    return dict(sorted(found.items()))


def _quantities(
    usage: Iterable[_Usage], before: Mapping[_Device, _Quantity] | None = None
) -> dict[_Device, _Quantity]:
    """How much each device was used, after what it was `before`."""
    found: dict[_Device, _Quantity] = defaultdict(_Quantity, before or {})
    for devices in usage:
        for device, lines in devices.items():
            found[device] = _plus(found[device], _sum(lines))
    return found


def _order(line: Line) -> tuple[str | int, ...]:
    """The order of a tenant's lines: what is late comes after what is not."""
    names = (line.revision, line.workflow, line.run, line.step, line.day, line.key)
    return (
        line.service_month or "",
        line.function or "",
        *(name or "" for name in names),
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
