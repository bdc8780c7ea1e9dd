"""Paddings in a ledger's database: kept with the rows, and made up for where rows have none yet.

Of each card that rounds and each chain, `roundings` has the last row that is in `paddings`. New
rows are counted in their own transaction where all before them are; otherwise they are left, and
are counted with the others when it is their turn. So nothing is lost where a card is set later,
begins in the past, or where a dsfn that knew of no paddings has posted rows meanwhile.
"""

from __future__ import annotations

import json

from dsfn.billing.entry import Entries, Entry
from dsfn.billing.queries import Execute
from dsfn.billing.rates.table import CardRow
from dsfn.billing.rounding import PaddingKey, Paddings, Roundings, Span

_NAMES = ("chain", *PaddingKey._fields, "padding_us")


def read_roundings(execute: Execute, known: Roundings) -> Roundings:
    """The cards that round; they are read when there are more than the known ones."""
    ((cards,),) = execute("count_cards", ())
    if cards == known.cards:
        return known
    return Roundings.of(CardRow(*values) for values in execute("select_cards", ()))


def count_new(
    execute: Execute, roundings: Roundings, chain: int, before: int, entries: Entries
) -> None:
    """Counts rows that follow the row `before` of a chain, in their transaction."""
    wanted = {
        "chain": chain,
        "before": before,
        "after": before + len(entries),
        "last_card": roundings.cards,
    }
    if cards := {card for (card,) in execute("advance_roundings", wanted)}:
        _add(execute, chain, roundings.count(entries, cards))


def is_behind(read: Execute, roundings: Roundings, chain: int) -> bool:
    """Whether there are rows of a chain that some card lacks."""
    head_seq, built = _state(read, chain)
    return any(built.get(span.card.number, 0) < head_seq for span in roundings.spans)


def count_older(execute: Execute, roundings: Roundings, chain: int, limit: int) -> int:
    """Counts the next rows of a chain, at most so many, for the first card that lacks some: how
    many rows those were. In a transaction of its own, while nobody posts to the chain."""
    head_seq, built = _state(execute, chain)
    for span in roundings.spans:
        number = span.card.number
        if number not in built:
            built[number] = _begin(execute, span, chain, head_seq)
        if (after := built[number]) < head_seq:
            until = min(head_seq, after + limit)
            wanted = {"chain": chain, "first": after + 1, "last": until}
            entries = [Entry._make(row[2:-1]) for row in execute("select_rows", wanted)]
            _add(execute, chain, roundings.count(entries, {number}))
            execute("set_built", {"card": number, "chain": chain, "built_seq": until})
            return until - after
    return 0


def _state(read: Execute, chain: int) -> tuple[int, dict[int, int]]:
    """The last row of a chain, 0 while there is none, and the last that each card has."""
    found = read("select_head", {"chain": chain})
    return found[0][0] if found else 0, dict(read("select_built_in", {"chain": chain}))


def _begin(execute: Execute, span: Span, chain: int, head_seq: int) -> int:
    """Has a card round from now on, which none did before: it has all rows where none of those
    that are there lie in its days. The last row that it has."""
    days = {"first_day": span.first_day, "last_day": span.last_day}
    built_seq = 0 if execute("has_usage_in_days", days) else head_seq
    about = {"card": span.card.number, "chain": chain}
    execute("delete_paddings", about)
    execute("set_built", {**about, "built_seq": built_seq})
    return built_seq


def _add(execute: Execute, chain: int, paddings: Paddings) -> None:
    if paddings:
        # In an order that all writers keep to.
        rows = [(chain, *key, paddings[key]) for key in sorted(paddings)]
        document = json.dumps([dict(zip(_NAMES, row, strict=True)) for row in rows])
        execute("add_paddings", {"paddings": document})
