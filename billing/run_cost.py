"""What a run of a workflow cost: every call that was made for it, retries included."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dsfn.billing.ledger import UsageSum
from dsfn.billing.money import ATTO_PER_NANO, apportioned
from dsfn.billing.rates import Rate, RateBook, RateCard
from dsfn.billing.selection import Selection
from dsfn.billing.service import parts_of
from dsfn.billing.splitting import by_weight
from dsfn.billing.usage import Status, Usage
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What some calls come to. Times are x devices; `quantity_us` is what of them is billed, and
    `amount_nano` what that costs by the list."""

    requests: int = 0
    quantity_us: int = 0
    busy_us: int = 0
    held_us: int = 0
    restore_us: int = 0
    amount_nano: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(
            self.requests + other.requests,
            self.quantity_us + other.quantity_us,
            self.busy_us + other.busy_us,
            self.held_us + other.held_us,
            self.restore_us + other.restore_us,
            self.amount_nano + other.amount_nano,
        )


class AttemptKey(NamedTuple):
    """Which calls of a step: the `attempt`-th of their items, counted from 1, with this end.
    `function` is another than the step's where its fallback took over."""

    attempt: int
    status: Status
    function: str
    device_class: str


@dataclass(frozen=True, slots=True)
class StepCost:
    """The calls of one step. `items`: for how many items there were some, 1 outside a fan-out."""

    step: str
    items: int
    attempts: tuple[tuple[AttemptKey, Cost], ...]

    @property
    def cost(self) -> Cost:
        """All of them."""
        return sum((cost for _, cost in self.attempts), Cost())

    @property
    def retries(self) -> int:
        """How many were not the first for their item."""
        return self.cost.requests - self.items


class _Group(NamedTuple):
    """What has one price."""

    card: int
    function: str
    device_class: str


class _Part(NamedTuple):
    step: str
    attempt: AttemptKey


def run_cost(rows: Iterable[Usage], book: RateBook) -> tuple[StepCost, ...]:
    """The cost of a run's calls, whose rows are in the order of their starts, step by step.

    A row is priced as on the bill: by the card in force, split where that changes, and not at all
    when its status is not billed. As on the bill, amounts are rounded once for each function,
    device class and card, here of the run, and then divided by largest remainder: they add up.
    """
    made: Counter[str] = Counter()
    items: Counter[str] = Counter()
    groups: dict[_Group, dict[_Part, list[UsageSum]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        # The caller of a step's call is the step for one item.
        made[row.caller] += 1
        items[row.step] += made[row.caller] == 1
        key = AttemptKey(made[row.caller], row.status, row.function, row.device_class)
        for card, part in _priced(row, book):
            group = groups[_Group(card.number, row.function, row.device_class)]
            group[_Part(row.step, key)].append(part)
    steps: dict[str, dict[AttemptKey, Cost]] = defaultdict(lambda: defaultdict(Cost))
    for about, parts in groups.items():
        for (step, key), cost in _costs(book.numbered(about.card), about.device_class, parts):
            steps[step][key] += cost
    return tuple(
        StepCost(step, items[step], tuple(sorted(attempts.items())))
        for step, attempts in steps.items()
    )


def _priced(row: Usage, book: RateBook) -> Iterator[tuple[RateCard, UsageSum]]:
    """A row in the parts that have one card each."""
    end_us = row.started_at_us + max(1, row.held_us)
    for segment in book.segments(row.started_at_us, end_us):
        whole = Selection(segment.start_us, segment.end_us)
        for part in parts_of(row, book, segment.card, whole):
            yield segment.card, part


def _costs(
    card: RateCard, device_class: str, parts: Mapping[_Part, Sequence[UsageSum]]
) -> Iterator[tuple[_Part, Cost]]:
    """What parts with one price come to: divided among steps as on the bill, then in each."""
    rate = card.rate(device_class)
    exact: dict[str, list[int]] = defaultdict(list)
    found: dict[str, list[tuple[_Part, Cost]]] = defaultdict(list)
    for part in sorted(parts):
        cost = _times(rate, parts[part], part.attempt.status in card.billed)
        billed = cost.requests if part.attempt.status in card.billed else 0
        found[part.step].append((part, cost))
        exact[part.step].append(rate.amount_atto(cost.quantity_us, billed))
    amounts = apportioned([sum(each) for each in exact.values()], ATTO_PER_NANO)
    for (step, own), amount_nano in zip(found.items(), amounts, strict=True):
        shares = by_weight(amount_nano, exact[step])
        for (part, cost), share_nano in zip(own, shares, strict=True):
            yield part, cost + Cost(amount_nano=share_nano)


def _times(rate: Rate, sums: Sequence[UsageSum], is_billed: bool) -> Cost:
    busy_us = sum(each.busy_us for each in sums)
    held_us = sum(each.held_us for each in sums)
    restore_us = sum(each.restore_us for each in sums)
    padding_us = sum(each.padding_us for each in sums)
    return Cost(
        requests=sum(each.requests for each in sums),
        quantity_us=rate.time_us(busy_us, held_us, restore_us) + padding_us if is_billed else 0,
        busy_us=busy_us,
        held_us=held_us,
        restore_us=restore_us,
    )
