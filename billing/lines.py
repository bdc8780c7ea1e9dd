"""The lines of a bill, and those about usage: at list price."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, NamedTuple

from dsfn.billing.ledger import UsageSum
from dsfn.billing.money import ATTO_PER_NANO, apportioned, atto_per_minor
from dsfn.billing.periods import day_text
from dsfn.billing.rates import RateCard
from dsfn.billing.selection import By
from dsfn.functions.values import dataclass

Kind = Literal["usage", "correction", "allowance", "tier", "discount", "minimum", "tax", "credit"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a bill.

    `kind` "usage": the billed requests of one tenant, function and device class under one rate
    card, at list price; "correction": the same of an earlier month, `service_month`, that was
    closed when it came. `function` and `device_class` are None where a line is about none.
    `revision`, `workflow`, `run`, `step`, `day` ("YYYY-MM-DD") and `key` are set where the bill is
    by them, "" where there is none. `card`: the number of the rate card. `quantity_us` is the
    time that the rate's basis bills. Of an "allowance" `requests` and `quantity_us` are what is
    free, of a "tier" the time that tiers are about. `note`: what an adjustment is, in words.
    `amount_minor` is rounded half-even from the exact amount; so is `amount_nano`, which is there
    to look closer.
    """

    kind: Kind
    tenant: str
    function: str | None = None
    revision: str | None = None
    workflow: str | None = None
    run: str | None = None
    step: str | None = None
    day: str | None = None
    key: str | None = None
    device_class: str | None = None
    card: int = 0
    requests: int = 0
    quantity_us: int = 0
    busy_us: int = 0
    held_us: int = 0
    restore_us: int = 0
    amount_nano: int = 0
    amount_minor: int = 0
    note: str = ""
    service_month: str | None = None


class Priced(NamedTuple):
    """What was used while one card was in force; `late`: the month, when it is one that was
    closed already."""

    card: RateCard
    sums: Sequence[UsageSum]
    late: str | None = None


class _Invoiced(NamedTuple):
    """What a line of an invoice is about, in the order of the lines."""

    tenant: str
    function: str
    device_class: str


_Parts = tuple[tuple[str, str], ...]


def usage_lines(stretch: Priced, by: By) -> Iterator[Line]:
    """What was used in a stretch and is billed, at list price.

    Amounts are rounded once for each tenant, function and device class, as on the invoice. By
    anything else those very amounts are divided, by largest remainder: whatever a bill is by, its
    lines add up to the same, function by function.
    """
    invoiced: dict[_Invoiced, list[UsageSum]] = defaultdict(list)
    for each in stretch.sums:
        if each.status in stretch.card.billed:
            invoiced[_Invoiced(each.tenant, each.function, each.device_class)].append(each)
    for about in sorted(invoiced):
        yield from _divided(about, invoiced[about], stretch, by)


# What was taken back whole leaves nothing of these, and no line.
_COUNTED = ("requests", "quantity_us", "busy_us", "held_us", "restore_us")


def _divided(about: _Invoiced, sums: Sequence[UsageSum], stretch: Priced, by: By) -> Iterator[Line]:
    groups: dict[_Parts, list[UsageSum]] = defaultdict(list)
    for each in sums:
        groups[_parts(each, by)].append(each)
    rate = stretch.card.rate(about.device_class)
    lines, exact = [], []
    for parts in sorted(groups):
        own: dict[str, Any] = dict(parts)
        line = replace(_usage_line(about, groups[parts], stretch), **own)
        if any(getattr(line, name) for name in _COUNTED):
            lines.append(line)
            exact.append(rate.amount_atto(line.quantity_us, line.requests))
    minor = apportioned(exact, atto_per_minor(stretch.card.exponent))
    nano = apportioned(exact, ATTO_PER_NANO)
    for line, amount_minor, amount_nano in zip(lines, minor, nano, strict=True):
        yield replace(line, amount_minor=amount_minor, amount_nano=amount_nano)


def _usage_line(about: _Invoiced, group: Sequence[UsageSum], stretch: Priced) -> Line:
    rate = stretch.card.rate(about.device_class)
    busy_us = sum(each.busy_us for each in group)
    held_us = sum(each.held_us for each in group)
    restore_us = sum(each.restore_us for each in group)
    padding_us = sum(each.padding_us for each in group)
    return Line(
        kind="correction" if stretch.late else "usage",
        tenant=about.tenant,
        function=about.function,
        device_class=about.device_class,
        card=stretch.card.number,
        requests=sum(each.requests for each in group),
        quantity_us=rate.time_us(busy_us, held_us, restore_us) + padding_us,
        busy_us=busy_us,
        held_us=held_us,
        restore_us=restore_us,
        service_month=stretch.late,
    )


def _parts(each: UsageSum, by: By) -> _Parts:
    """What tells a line from others of the same line of an invoice, by the fields' names."""
    return tuple((name, _PARTS[name](each)) for name in _NAMES[by])


_PARTS: dict[str, Callable[[UsageSum], str]] = {
    "revision": lambda each: each.revision,
    "workflow": lambda each: each.workflow,
    "run": lambda each: each.run,
    "step": lambda each: each.step,
    "day": lambda each: day_text(each.day),
    "key": lambda each: each.key_id,
}
# What a bill by something has beside tenant, function and device class.
_NAMES: dict[By, tuple[str, ...]] = {
    "function": (),
    "revision": ("revision",),
    "workflow": ("workflow",),
    "run": ("workflow", "run"),
    "step": ("workflow", "step"),
    "day": ("day",),
    "key": ("key",),
}
_ALL_NAMES = {name for names in _NAMES.values() for name in names}


def line_document(line: Line, by: By) -> dict[str, Any]:
    """A line as a JSON-able document, which has no keys for what the bill is not by."""
    unused = _ALL_NAMES.difference(_NAMES[by])
    return {name: value for name, value in asdict(line).items() if name not in unused}


def line_of(document: Mapping[str, Any]) -> Line:
    """The line of a document that `line_document` made."""
    return Line(**document)
