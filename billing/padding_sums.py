"""What rounding calls up adds to the sums of usage for bills, whichever database has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dsfn.billing.ledger import UsageSum
from dsfn.billing.periods import DAY_US
from dsfn.billing.queries import Execute
from dsfn.billing.rates.card import RateCard
from dsfn.billing.rates.writing import canonical_text, digest_of
from dsfn.billing.selection import NOT_ROLLED_UP, Selection
from dsfn.billing.usage_sums import days_of, sum_in


def paddings(
    read: Execute, selection: Selection, card: RateCard, device_classes: Sequence[str]
) -> list[UsageSum]:
    """What rounding their times up to a card's increments adds to the rows of `sums` on some device
    classes: of whole days from what is added up already, of others from the journal."""
    whole = _added_up(read, selection, card)
    if whole is None:
        return _from_rows(read, selection, card, device_classes)
    found = [
        sum_in(selection, *values)
        for values in read("sum_paddings", {**whole.bindings(), "card": card.number})
    ]
    return [
        *(each for each in found if each.device_class in device_classes),
        *_from_rows(read, replace(selection, end_us=whole.start_us), card, device_classes),
        *_from_rows(read, replace(selection, start_us=whole.end_us), card, device_classes),
    ]


def _from_rows(
    read: Execute, selection: Selection, card: RateCard, device_classes: Sequence[str]
) -> list[UsageSum]:
    found: list[UsageSum] = []
    for device_class in device_classes:
        rate = card.rate(device_class)
        how: dict[str, int | str] = {
            "device_class": device_class,
            "basis": rate.basis,
            "increment_us": rate.increment_us,
        }
        for day in days_of(selection):
            rows = read("sum_padding", {**day.bindings(), **how})
            found += [sum_in(selection, *values) for values in rows]
    return found


def _added_up(read: Execute, selection: Selection, card: RateCard) -> Selection | None:
    """The whole days of a selection for which all rows are added up, by this very card."""
    kept = read("select_card_span", {"card": card.number})
    if selection.by in NOT_ROLLED_UP or not kept or kept[0][0] != digest_of(canonical_text(card)):
        return None
    next_us: int | None = kept[0][1]
    start_us = max(selection.start_us, card.effective_from_us)
    end_us = selection.end_us if next_us is None else min(selection.end_us, next_us)
    first_us, last_us = -(-start_us // DAY_US) * DAY_US, end_us // DAY_US * DAY_US
    # The rows first: those that are posted meanwhile are in the sums or are not.
    heads = read("select_heads", ())
    built = dict(read("select_built_of", {"card": card.number}))
    if first_us >= last_us or any(built.get(chain, 0) < seq for chain, seq, _ in heads):
        return None
    return replace(selection, start_us=first_us, end_us=last_us)
