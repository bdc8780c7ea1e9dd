"""A bill as it is laid out on paper, whatever draws it: all words and numbers, and their places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta

from dsfn.billing.exports.charts import Bar, Chart, columns, rows
from dsfn.billing.exports.texts import amount_text, count_text, date_text, seconds_text
from dsfn.billing.invoice import DayAmount, Invoice
from dsfn.billing.ledger import DeviceTime
from dsfn.billing.lines import Line
from dsfn.billing.parties import Party
from dsfn.billing.periods import DAY_US, day_text
from dsfn.billing.statement import Statement
from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Seal:
    """What proves a document: the SHA-256 of its canonical JSON, in hex, and the signature of
    that by the ledger's key."""

    digest: str
    signature: str
    key: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of usage or of what adjusts it; `detail`: what the bill is by, beside functions."""

    name: str
    detail: str
    device: str
    card: str
    requests: str
    time: str
    amount: str


@dataclass(frozen=True, slots=True)
class Total:
    """A line of the block of sums; the last one of a document `is_due`."""

    label: str
    amount: str
    is_due: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """What one tenant has on the document. `name`: "" where the document has one tenant."""

    name: str
    rows: tuple[Row, ...]
    totals: tuple[Total, ...]


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device class's time, in words."""

    device_class: str
    held: str
    requests: str
    restore: str
    idle: str


@dataclass(frozen=True, slots=True)
class Paper:
    """A document, ready to be drawn.

    `mark`: a word over everything that is no invoice, such as "Estimate". `facts`: labels and
    texts of the head. `grand`: the sum of several sections. `made_on`: the date of the document
    itself, never that of its printing.
    """

    title: str
    number: str
    mark: str
    issuer: Party
    recipient: Party | None
    facts: tuple[tuple[str, str], ...]
    lead: str
    currency: str
    sections: tuple[Section, ...]
    grand: tuple[Total, ...]
    charts: tuple[Chart, ...]
    devices: tuple[DeviceRow, ...]
    notes: tuple[str, ...]
    terms: str
    seal: Seal | None
    made_on: date

    def require_at_most(self, rows: int, what: str) -> None:
        """Raises `UsageError` for a document with more lines."""
        if sum(len(section.rows) for section in self.sections) > rows:
            raise UsageError(f"{what} has at most {rows} lines: ask for CSV, or for less.")


def paper_of_invoice(invoice: Invoice, seal: Seal | None = None) -> Paper:
    """An invoice, its draft or a credit note. `seal`: of a closed one."""
    title = "Credit note" if invoice.kind == "credit" else "Invoice"
    is_open = invoice.status == "open"
    start, end = (date.fromisoformat(day) for day in invoice.period)
    money = _Money(invoice.currency, invoice.exponent)
    issued_on = date.fromisoformat(invoice.issued_on)
    return Paper(
        title=title,
        number=invoice.number,
        mark="Estimate" if is_open else "",
        issuer=invoice.issuer,
        recipient=invoice.customer,
        facts=tuple(_invoice_facts(invoice, start, end)),
        lead=_lead(invoice),
        currency=invoice.currency,
        sections=(_section("", invoice.lines, money),),
        grand=(),
        charts=tuple(_charts(invoice.days, start, end, money)),
        devices=(),
        notes=tuple(_notes(invoice.lines, is_open)),
        terms=invoice.terms if invoice.kind == "invoice" and not is_open else "",
        seal=seal,
        made_on=issued_on,
    )


def paper_of_statement(
    statement: Statement, issuer: Party, days: Sequence[DayAmount] = ()
) -> Paper:
    """A statement of all tenants or of one, by anything. `days`: its usage, for the charts."""
    start, end = _dates(statement.start_us, statement.end_us)
    money = _Money(statement.currency, statement.exponent)
    tenants = list(dict.fromkeys(line.tenant for line in statement.lines))
    is_open = statement.status == "open"
    sections = tuple(
        _section(
            _shown(tenant) if len(tenants) > 1 else "",
            [line for line in statement.lines if line.tenant == tenant],
            money,
        )
        for tenant in tenants
    )
    total = Total("Total of all tenants", money.due(statement.total_minor), is_due=True)
    return Paper(
        title="Statement of usage",
        number="",
        mark="Estimate" if is_open else "",
        issuer=issuer,
        recipient=Party(_shown(tenants[0])) if len(tenants) == 1 else None,
        facts=tuple(_statement_facts(statement, start, end)),
        lead=_statement_lead(statement, money),
        currency=statement.currency,
        sections=sections,
        grand=(total,) if len(tenants) != 1 else (),
        charts=tuple(_charts(days, start, end, money)),
        devices=tuple(map(_device_row, statement.devices)),
        notes=tuple(_notes(statement.lines, is_open)),
        terms="",
        seal=None,
        made_on=start,
    )


@dataclass(frozen=True, slots=True)
class _Money:
    currency: str
    exponent: int

    def plain(self, amount_minor: int) -> str:
        return amount_text(amount_minor, self.exponent)

    def due(self, amount_minor: int) -> str:
        return f"{self.currency} {self.plain(amount_minor)}"


def _invoice_facts(invoice: Invoice, start: date, end: date) -> Iterator[tuple[str, str]]:
    if invoice.number:
        yield "Number", invoice.number
    yield "Date", date_text(date.fromisoformat(invoice.issued_on))
    yield "Period", _period_text(start, end)
    if invoice.due_on and invoice.status == "closed":
        yield "Due", date_text(date.fromisoformat(invoice.due_on))
    if invoice.reverses:
        yield "Credits", invoice.reverses
    yield "Account", _shown(invoice.tenant)
    yield "Currency", invoice.currency


def _statement_facts(statement: Statement, start: date, end: date) -> Iterator[tuple[str, str]]:
    yield "Period", _period_text(start, end)
    yield "Account", _shown(statement.tenant or "all tenants")
    yield "By", statement.by
    yield "Currency", statement.currency


def _lead(invoice: Invoice) -> str:
    if invoice.kind == "credit":
        return invoice.reason
    if invoice.status == "open":
        return "This month is not closed. It is an estimate, and nothing is due yet."
    return ""


def _statement_lead(statement: Statement, money: _Money) -> str:
    if statement.month is None:
        return (
            "What was used in this time, at list price: allowances, discounts and taxes are a"
            " month's."
        )
    if statement.expected_minor is not None:
        expected = money.due(statement.expected_minor)
        return f"This month is under way. It comes to {expected} if it goes on as it has so far."
    return "This month is not closed yet." if statement.status == "open" else ""


def _section(name: str, lines: Sequence[Line], money: _Money) -> Section:
    listed = [line for line in lines if line.kind in _LISTED]
    return Section(
        name=name,
        rows=tuple(_row(line, money) for line in listed),
        totals=tuple(_totals(lines, money)),
    )


MAX_DAYS_OF_A_CHART = 100
_LABELLED_DAYS = 31
# Lines about usage; the others are about the sum of these.
_LISTED = ("usage", "correction", "allowance", "tier", "credit")


def _row(line: Line, money: _Money) -> Row:
    is_usage = line.kind in ("usage", "correction")
    return Row(
        name=_shown(line.function or _adjustment_text(line)),
        detail=_shown(", ".join(_details(line))),
        device=_shown(line.device_class or ""),
        card=str(line.card) if line.card else "",
        requests=count_text(line.requests) if is_usage or line.requests else "",
        time=seconds_text(line.quantity_us) if is_usage or line.quantity_us else "",
        amount=money.plain(line.amount_minor),
    )


def _details(line: Line) -> Iterator[str]:
    if line.service_month is not None:
        yield f"correction of {line.service_month}"
    for name in ("revision", "workflow", "run", "step", "day", "key"):
        value = getattr(line, name)
        if value is not None:
            yield f"{name} {value}" if value else f"no {name}"


def _adjustment_text(line: Line) -> str:
    match line.kind:
        case "discount":
            return f"Discount {line.note}"
        case "minimum":
            return "Minimum for a month"
        case "tax":
            return line.note
        case _:
            return line.note[:1].upper() + line.note[1:]


def _totals(lines: Sequence[Line], money: _Money) -> Iterator[Total]:
    """What is listed, what changes the sum of it, and what is due."""
    listed_minor = sum(line.amount_minor for line in lines if line.kind in _LISTED)
    others = [line for line in lines if line.kind not in _LISTED]
    if others:
        yield Total("Subtotal", money.plain(listed_minor))
    several = len({line.card for line in others}) > 1
    for line in others:
        card = f" (rate card {line.card})" if several else ""
        yield Total(f"{_adjustment_text(line)}{card}", money.plain(line.amount_minor))
    yield Total("Total", money.due(sum(line.amount_minor for line in lines)), is_due=True)


def _charts(days: Sequence[DayAmount], start: date, end: date, money: _Money) -> list[Chart]:
    if not any(each.amount_minor for each in days):
        return []
    by_function: dict[str, int] = defaultdict(int)
    for each in days:
        by_function[each.function] += each.amount_minor
    functions = [Bar(_shown(name), amount) for name, amount in by_function.items()]
    title = f"Usage by function, list price in {money.currency}"
    return [_timeline(days, start, end, money), rows(title, functions, money.exponent)]


def _timeline(days: Sequence[DayAmount], start: date, end: date, money: _Money) -> Chart:
    """Columns for days, or for months where these are too many. Corrections are on the day of
    their service, which may lie before `start`."""
    first = min(start, date.fromisoformat(min(each.day for each in days)))
    every = [first + timedelta(n) for n in range((end - first).days)]
    by_month = len(every) > MAX_DAYS_OF_A_CHART
    names = [f"{day:%Y-%m}" if by_month else day.isoformat() for day in every]
    amounts = dict.fromkeys(names, 0)
    for each in days:
        amounts[each.day[:7] if by_month else each.day] += each.amount_minor
    bars = [Bar(name, amount, _label(name, len(every))) for name, amount in amounts.items()]
    title = f"Usage by {'month' if by_month else 'day'}, list price in {money.currency}"
    return columns(title, bars, money.exponent)


def _label(name: str, days: int) -> str:
    """What is below a column: the day, of many days only the first one of a month."""
    if days <= _LABELLED_DAYS and len(name) > len("2026-11"):
        return str(int(name[-2:]))
    return name[:7] if name.endswith("-01") or days > MAX_DAYS_OF_A_CHART else ""


def _device_row(device: DeviceTime) -> DeviceRow:
    return DeviceRow(
        device_class=_shown(device.device_class),
        held=seconds_text(device.held_us),
        requests=seconds_text(device.requests_us),
        restore=seconds_text(device.restore_us),
        idle=seconds_text(device.idle_us),
    )


def _notes(lines: Iterable[Line], is_open: bool) -> Iterator[str]:
    kinds = {line.kind for line in lines}
    if is_open:
        yield "An estimate by the rates in force: usage may still come, and rates may change."
    if "correction" in kinds:
        yield (
            "Corrections are usage of months that were closed when it became known, by the rates"
            " in force when it was served."
        )
    if kinds & {"usage", "correction"}:
        yield (
            "Usage is at list price, each amount rounded half to even. Days and months are UTC."
            " Faults of the platform are not billed."
        )


def _shown(text: str) -> str:
    """A name as it can be seen: what no one sees, such as the end of a line or a change of the
    direction of writing, is written as its number."""
    return "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text)


def _dates(start_us: int, end_us: int) -> tuple[date, date]:
    """The first day of a stretch of time, and the first one that has nothing of it."""
    first, last = start_us // DAY_US, -(-end_us // DAY_US)
    return date.fromisoformat(day_text(first)), date.fromisoformat(day_text(last))


def _period_text(start: date, end: date) -> str:
    last = end - timedelta(1)
    if start == last:
        return date_text(start)
    if (start.year, start.month) == (last.year, last.month):
        return f"{start.day} \N{EN DASH} {date_text(last)}"
    return f"{date_text(start)} \N{EN DASH} {date_text(last)}"
