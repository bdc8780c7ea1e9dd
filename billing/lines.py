"""The lines of a bill, and those about usage: at list price."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dsfn.billing.ledger import UsageSum
from dsfn.billing.money import ATTO_PER_NANO, atto_per_minor, half_even
from dsfn.billing.periods import day_text
from dsfn.billing.rates import RateCard

By = Literal["function", "revision", "day"]
Kind = Literal["usage", "allowance", "tier", "discount", "minimum", "tax"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill.

    `kind` "usage": the billed requests of one key under one rate card, at list price.
    `function`, `revision` and `day` ("YYYY-MM-DD") are set where the line is about one.
    `card`: the number of the rate card. `quantity_us` is the time that the rate's basis bills.
    Of an "allowance" `requests` and `quantity_us` are what is free, of a "tier" the time that
    tiers are about. `note`: what an adjustment is, in words. `amount_minor` is rounded half-even
    from the exact amount; so is `amount_nano`, which is there to look closer.
    """

    kind: Kind
    tenant: str
    function: str | None
    revision: str | None
    day: str | None
    device_class: str | None
    card: int
    requests: int
    quantity_us: int
    busy_us: int
    held_us: int
    restore_us: int
    amount_nano: int
    amount_minor: int
    note: str = ""


class Priced(NamedTuple):
    """What was used while one card was in force."""

    card: RateCard
    sums: Sequence[UsageSum]


class _Key(NamedTuple):
    """What a line of usage is about, in the order of the lines."""

    tenant: str
    function: str
    revision: str
    day: str
    device_class: str


def usage_lines(stretch: Priced, by: By) -> Iterator[Line]:
    """What was used in a stretch and is billed, at list price."""
    groups: dict[_Key, list[UsageSum]] = defaultdict(list)
    for each in stretch.sums:
        if each.status in stretch.card.billed:
            revision = each.revision if by == "revision" else ""
            day = day_text(each.day) if by == "day" else ""
            key = _Key(each.tenant, each.function, revision, day, each.device_class)
            groups[key].append(each)
    for key in sorted(groups):
        yield _usage_line(key, groups[key], stretch, by)


def _usage_line(key: _Key, group: list[UsageSum], stretch: Priced, by: By) -> Line:
    rate = stretch.card.rate(key.device_class)
    requests = sum(each.requests for each in group)
    busy_us = sum(each.busy_us for each in group)
    held_us = sum(each.held_us for each in group)
    restore_us = sum(each.restore_us for each in group)
    padding_us = sum(each.padding_us for each in group)
    quantity_us = rate.time_us(busy_us, held_us, restore_us) + padding_us
    atto = rate.amount_atto(quantity_us, requests)
    return Line(
        kind="usage",
        tenant=key.tenant,
        function=key.function,
        revision=key.revision if by == "revision" else None,
        day=key.day if by == "day" else None,
        device_class=key.device_class,
        card=stretch.card.number,
        requests=requests,
        quantity_us=quantity_us,
        busy_us=busy_us,
        held_us=held_us,
        restore_us=restore_us,
        amount_nano=half_even(atto, ATTO_PER_NANO),
        amount_minor=half_even(atto, atto_per_minor(stretch.card.exponent)),
    )
