"""A month's bill: what the ledger's rows cost by the rate cards in force."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Literal, get_args

from dsfn.billing.adjustments import lines_of, list_lines
from dsfn.billing.expectation import expected_minor
from dsfn.billing.ledger import DeviceTime, Ledger
from dsfn.billing.lines import Line, Priced, line_document, line_of
from dsfn.billing.periods import Month, instant_of, moment_text
from dsfn.billing.ranges import Range
from dsfn.billing.rates import RateBook
from dsfn.billing.selection import BYS, By, Selection
from dsfn.billing.service import used_in
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Statement:
    """The bill of [start_us, end_us); `total_minor` is the sum of its lines.

    `month` is None where that is not a month: then there is nothing but usage at list price, for
    allowances, tiers, minimums and taxes are a month's. `tenant`: whose it is, None for all of
    them. `expected_minor`: what the month comes to if it goes on as it has gone so far, None where
    it is over or has not begun.
    """

    month: str | None
    by: By
    status: Literal["open", "closed"]
    currency: str
    exponent: int
    total_minor: int
    lines: tuple[Line, ...]
    devices: tuple[DeviceTime, ...]
    start_us: int = 0
    end_us: int = 0
    tenant: str | None = None
    expected_minor: int | None = None

    def to_document(self) -> dict[str, Any]:
        """This statement as a JSON-able document; its lines have only the key they are by."""
        return {
            "month": self.month,
            "start": moment_text(self.start_us),
            "end": moment_text(self.end_us),
            "by": self.by,
            "tenant": self.tenant,
            "status": self.status,
            "currency": self.currency,
            "exponent": self.exponent,
            "total_minor": self.total_minor,
            "expected_minor": self.expected_minor,
            "lines": [line_document(line, self.by) for line in self.lines],
            "devices": [asdict(device) for device in self.devices],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Statement:
        """The statement of a document that `to_document` made."""
        given = {name: value for name, value in document.items() if name not in ("start", "end")}
        return cls(
            **{
                **given,
                "start_us": instant_of(datetime.fromisoformat(document["start"])),
                "end_us": instant_of(datetime.fromisoformat(document["end"])),
                "lines": tuple(map(line_of, document["lines"])),
                "devices": tuple(DeviceTime(**each) for each in document["devices"]),
            }
        )

    @classmethod
    def from_text(cls, text: str) -> Statement:
        """The statement of such a document's JSON."""
        return cls.from_document(json.loads(text))

    def of_tenant(self, tenant: str) -> Statement:
        """The part of a statement of all tenants that is about one. Devices are not divided."""
        lines = tuple(line for line in self.lines if line.tenant == tenant)
        total_minor = sum(line.amount_minor for line in lines)
        return replace(self, tenant=tenant, lines=lines, total_minor=total_minor)

    def expecting(self, now_us: int) -> Statement:
        """This statement with what the month comes to if it goes on like this."""
        gone_us, whole_us = now_us - self.start_us, self.end_us - self.start_us
        if self.month is None or not 0 < gone_us < whole_us:
            return self
        return replace(self, expected_minor=expected_minor(self.lines, gone_us, whole_us))


@dataclass(frozen=True, slots=True)
class MonthUsage:
    """All that is billed in a month, in the stretches that it was used in: `late` ones of months
    that were closed before come first. `billed` is what these had then."""

    month: Month
    stretches: tuple[Priced, ...]
    billed: tuple[Priced, ...]

    def lines(self, by: By) -> tuple[Line, ...]:
        """The lines by what the usage is told apart by, or by "function"."""
        return lines_of(self.stretches, by, self.billed)


def month_usage(
    ledger: Ledger, book: RateBook, month: Month, by: By, tenant: str = ""
) -> MonthUsage:
    """What is billed in a month: what was used in it, and what came after the month that it was
    used in was closed. Each stretch of time has the card that was in force in it."""
    wanted = Selection(month.start_us, month.end_us, by, last=month.text, tenant=tenant)
    late, billed = _late(ledger, book, wanted)
    own = _priced(ledger, book, wanted)
    return MonthUsage(month, (*late, *own), tuple(billed))


def statement(
    ledger: Ledger,
    book: RateBook,
    month: str,
    by: str = "function",
    tenant: str = "",
) -> Statement:
    """The bill of `month` ("YYYY-MM") by one of `BYS`: all that is billed in it.

    The same rows and cards give the same statement, whatever the order they were posted in.
    Raises `UsageError` for a month or a `by` that is none.
    """
    period, key = Month.parse(month), by_of(by)
    lines = month_usage(ledger, book, period, key, tenant).lines(key)
    return month_statement(ledger, book, period, key, lines, tenant)


def month_statement(
    ledger: Ledger, book: RateBook, month: Month, by: By, lines: tuple[Line, ...], tenant: str = ""
) -> Statement:
    """The bill of a month that has these lines."""
    return replace(
        _statement(ledger, book, Range.of(month), by, lines, tenant),
        month=month.text,
        devices=_month_devices(ledger, month),
    )


def _month_devices(ledger: Ledger, month: Month) -> tuple[DeviceTime, ...]:
    """The time of devices in a month, without what came after it was closed, and what came late
    for earlier ones: as the lines, each row is in one month's statement."""
    times: dict[str, DeviceTime] = {}
    own = ledger.device_times(month.start_us, month.end_us, last=month.text)
    late = ledger.device_times(0, month.start_us, first=month.text, last=month.text)
    for each in (*own, *late):
        before = times.get(each.device_class)
        times[each.device_class] = each if before is None else before.plus(each)
    return tuple(times[name] for name in sorted(times))


def range_statement(
    ledger: Ledger,
    book: RateBook,
    stretch: Range,
    by: str = "function",
    tenant: str = "",
) -> Statement:
    """What was used in any stretch of time, at list price, whenever it is billed."""
    key = by_of(by)
    wanted = Selection(stretch.start_us, stretch.end_us, key, tenant=tenant)
    lines = list_lines(_priced(ledger, book, wanted), key)
    return _statement(ledger, book, stretch, key, lines, tenant)


def _statement(
    ledger: Ledger, book: RateBook, stretch: Range, by: By, lines: tuple[Line, ...], tenant: str
) -> Statement:
    return Statement(
        month=None,
        by=by,
        status="closed" if stretch.end_us <= ledger.closed_until_us else "open",
        currency=book.currency,
        exponent=book.exponent,
        total_minor=sum(line.amount_minor for line in lines),
        lines=lines,
        devices=tuple(ledger.device_times(stretch.start_us, stretch.end_us)),
        start_us=stretch.start_us,
        end_us=stretch.end_us,
        tenant=tenant or None,
    )


def by_of(text: str) -> By:
    """What a bill may be by. Raises `UsageError`."""
    for each in get_args(By):
        if text == each:
            found: By = each
            return found
    raise UsageError(f"A bill is by {', '.join(BYS)}, not by {text!r}.")


def _priced(
    ledger: Ledger, book: RateBook, wanted: Selection, late: str | None = None
) -> list[Priced]:
    stretches = []
    for segment in book.segments(wanted.start_us, wanted.end_us):
        part = replace(wanted, start_us=segment.start_us, end_us=segment.end_us)
        sums = tuple(used_in(ledger, book, segment.card, part))
        stretches.append(Priced(segment.card, sums, late))
    return stretches


def _late(ledger: Ledger, book: RateBook, wanted: Selection) -> tuple[list[Priced], list[Priced]]:
    """What is billed in the month of `wanted` and was used in earlier ones, and what these had
    before."""
    late: list[Priced] = []
    billed: list[Priced] = []
    first_us = ledger.first_service_us(wanted.last)
    month = Month.containing(wanted.start_us if first_us is None else first_us)
    while month.start_us < wanted.start_us:
        service = replace(wanted, start_us=month.start_us, end_us=month.end_us)
        late += _priced(ledger, book, replace(service, first=wanted.last), month.text)
        before = Month.containing(wanted.start_us - 1).text
        service = replace(service, by="function", last=before)
        billed += _priced(ledger, book, service, month.text)
        month = month.next()
    return late, billed
