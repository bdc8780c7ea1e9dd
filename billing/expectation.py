"""What an open month comes to if it goes on as it has gone so far: an estimate."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from dsfn.billing.lines import Line


def expected_minor(lines: Iterable[Line], gone_us: int, whole_us: int) -> int:
    """The total of a month of `whole_us` whose lines are those of its first `gone_us`.

    What was used in the month grows with time, and so does what tiers change about it. An
    allowance that is used up stays, and so does what is billed late for earlier months. Discounts
    and tax are the same part of the new amounts as of the old ones, and the minimum is filled up
    to where it was. Cards that begin later in the month and tiers that are reached later are not
    foreseen.
    """
    growth = Fraction(whole_us, gone_us)
    late_minor, tenants = 0, dict[str, list[Line]]()
    for line in lines:
        if line.service_month is None:
            tenants.setdefault(line.tenant, []).append(line)
        else:
            late_minor += line.amount_minor
    return late_minor + sum(round(_own(own, growth)) for own in tenants.values())


def _own(lines: list[Line], growth: Fraction) -> Fraction:
    """What one tenant's lines about the month itself grow to."""
    now = _by_kind(lines)
    used = now["usage"] + now["allowance"] + now["tier"]
    grown = _grown_usage(lines, growth)
    discounted = grown + _in_proportion(now["discount"], grown, used)
    before_tax = used + now["discount"] + now["minimum"]
    due = max(discounted, Fraction(before_tax)) if now["minimum"] else discounted
    return due + _in_proportion(now["tax"], due, before_tax)


def _grown_usage(lines: list[Line], growth: Fraction) -> Fraction:
    """Usage with its tiers and allowances, device class by device class."""
    devices: dict[str | None, list[Line]] = {}
    for line in lines:
        devices.setdefault(line.device_class, []).append(line)
    total = Fraction(0)
    for own in devices.values():
        now = _by_kind(own)
        is_used_up = now["usage"] + now["allowance"] > 0
        total += growth * (now["usage"] + now["tier"])
        total += now["allowance"] * (1 if is_used_up else growth)
    return total


def _in_proportion(part: int, grown: Fraction, whole: int) -> Fraction:
    return part * grown / whole if whole else Fraction(0)


def _by_kind(lines: Iterable[Line]) -> dict[str, int]:
    found = dict.fromkeys(("usage", "allowance", "tier", "discount", "minimum", "tax"), 0)
    for line in lines:
        if line.kind in found:
            found[line.kind] += line.amount_minor
    return found
