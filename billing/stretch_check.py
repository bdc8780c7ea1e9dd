"""Whether the rows of a stretch of a chain are those that were posted, and what they come to.

This is asked of every row, so little may be done for each. Rows have most texts in common with
many others: these come from the database as one, and what they are in canonical bytes, and what
the rows add up to, is worked out once for all that have it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import field
from hashlib import sha256
from typing import Any

from dsfn.billing.canonical import FIRST_HASH, INTEGERS, VERSION, pack_head, pack_length, text_bytes
from dsfn.billing.entry import COLUMNS, Entry
from dsfn.billing.periods import DAY_US
from dsfn.billing.rollups import Totals
from dsfn.billing.rounding import Alike, Counted, Paddings, is_in_day, padding_key
from dsfn.functions.values import dataclass

# A row as `select_compact` gives it: chain, seq, the integers of `Entry`, the hash, the texts that
# it has for itself, and all others with a separator between them.
CompactRow = tuple[Any, ...]
# The chain, and the numbers of the first and the last row.
Stretch = tuple[int, int, int]
_OWN = ("id", "run", "step", "idempotency_key")
_COMMON = tuple(name for name in COLUMNS[INTEGERS:] if name not in _OWN)
# Before which of the texts in common the others have their places.
_ID, _RUN, _KEY = (_COMMON.index(name) for name in ("key_id", "device", "reverses"))
_KIND, _CLASS = _COMMON.index("kind"), _COMMON.index("device_class")


@dataclass(slots=True)
class Checked:
    """A stretch of a chain that was looked at. `bad_seq`: the first row that is not right;
    `paddings`: what rounding adds to those that are counted, by the fields of `PaddingKey`."""

    rows: int = 0
    bad_seq: int | None = None
    totals: Totals = field(default_factory=Totals)
    paddings: Paddings = field(default_factory=dict)


def new_separator() -> str:
    """What is in no text: whoever wrote those could not know it."""
    return secrets.token_urlsafe(9)


def check(
    rows: Iterable[CompactRow],
    separator: str,
    stretch: Stretch,
    before: bytes | None,
    counted: Counted,
) -> Checked:
    """Looks at the rows of a stretch.

    `before`: the hash of the row before, None where that is missing. `counted`: the rows of which
    there are paddings.
    """
    in_chain, first, last = stretch
    groups, expected = _Groups(separator, in_chain, counted), first
    bad_seq, digest = (first, FIRST_HASH) if before is None else (None, before)
    for row in rows:
        (
            chain, seq, devices, started_at_us, busy_us, held_us, restore_us, amount,
            kept, id_, run, step, key, common,
        ) = row  # fmt: skip
        group = groups[common, devices, started_at_us // DAY_US]
        id_bytes = id_.encode()
        head = pack_head(
            VERSION, chain, seq, devices, started_at_us, busy_us, held_us, restore_us, amount
        )
        body = b"".join((
            digest, head, group.to_id, pack_length(len(id_bytes)), id_bytes, group.to_run,
            text_bytes((run, step)), group.to_key, text_bytes((key,)), group.to_end,
        ))  # fmt: skip
        if bad_seq is None and (sha256(body).digest() != kept or seq != expected):
            bad_seq = expected
        digest, expected = kept, seq + 1
        group.add(id_, busy_us, held_us, restore_us, amount)
        if group.alike is not None:
            group.round_up(seq, started_at_us, busy_us, held_us, restore_us)
    if bad_seq is None and expected != last + 1:
        bad_seq = expected
    return Checked(groups.rows(), bad_seq, groups.totals(), groups.paddings())


# What rows have in common, their devices and their day.
_Key = tuple[str, int, int]


@dataclass(slots=True)
class _Group:
    """Rows that are alike.

    `texts`: all of an entry's, those of `_OWN` empty; `to_id`, `to_run`, `to_key` and `to_end`: the
    canonical bytes around these. `sums`: of rows about time, their number, busy, held and restore
    time, and amount; `moved`: of each row about money, its id and amount. `alike`: of calls that
    are rounded, how; `padding_us`: what that adds.
    """

    texts: tuple[str, ...]
    to_id: bytes
    to_run: bytes
    to_key: bytes
    to_end: bytes
    is_time: bool
    devices: int
    day: int
    alike: Alike | None
    sums: list[int] = field(default_factory=lambda: [0] * 5)
    moved: list[tuple[str, int]] = field(default_factory=list)
    padding_us: int = 0

    def add(self, id_: str, busy_us: int, held_us: int, restore_us: int, amount: int) -> None:
        """Adds a row."""
        if not self.is_time:
            self.moved.append((id_, amount))
            return
        sums = self.sums
        sums[0] += 1
        sums[1] += busy_us
        sums[2] += held_us
        sums[3] += restore_us
        sums[4] += amount

    def round_up(
        self, seq: int, started_at_us: int, busy_us: int, held_us: int, restore_us: int
    ) -> None:
        """Adds what rounding it up adds to a row."""
        alike, devices = self.alike, self.devices
        assert alike is not None
        if seq <= alike.built_seq and is_in_day(self.day, started_at_us, held_us):
            times_us = (busy_us * devices, held_us * devices, restore_us * devices)
            self.padding_us += alike.sign * alike.rate.padding_us(*times_us)

    def entry(self) -> Entry:
        """The rows as one, with what they come to if they are about time."""
        _, *times, amount = self.sums
        return Entry._make((self.devices, self.day * DAY_US, *times, amount, *self.texts))


class _Groups(dict[_Key, _Group]):
    """The rows of a stretch of a chain by what they have in common."""

    def __init__(self, separator: str, chain: int, counted: Counted) -> None:
        super().__init__()
        self._separator = separator
        self._chain = chain
        self._counted = counted

    def __missing__(self, key: _Key) -> _Group:
        common = tuple(key[0].split(self._separator))
        to_id, to_run = common[:_ID], common[_ID:_RUN]
        to_key, to_end = common[_RUN:_KEY], common[_KEY:]
        self[key] = group = _Group(
            texts=(*to_id, "", *to_run, "", "", *to_key, "", *to_end),
            to_id=text_bytes(to_id),
            to_run=text_bytes(to_run),
            to_key=text_bytes(to_key),
            to_end=text_bytes(to_end),
            is_time=common[_CLASS] != "",
            devices=key[1],
            day=key[2],
            alike=self._counted.alike(self._chain, key[2], common[_KIND], common[_CLASS]),
        )
        return group

    def rows(self) -> int:
        """How many there are."""
        return sum(group.sums[0] + len(group.moved) for group in self.values())

    def totals(self) -> Totals:
        """What the rows come to."""
        totals = Totals()
        for group in self.values():
            entry = group.entry()
            if group.is_time:
                totals.add_alike(entry, group.sums[0])
            else:
                totals.add(entry._replace(id=id_, amount=amount) for id_, amount in group.moved)
        return totals

    def paddings(self) -> Paddings:
        """What rounding adds to the rows."""
        paddings: Paddings = {}
        for group in self.values():
            if group.alike is not None and group.padding_us:
                key = padding_key(group.alike.card, group.day, group.entry())
                paddings[key] = paddings.get(key, 0) + group.padding_us
        return paddings
