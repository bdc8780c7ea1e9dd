"""A bill as a PDF: A4, with text that can be copied and charts that are drawn, not pictures."""

from __future__ import annotations

from collections.abc import Sequence

from dsfn.billing.exports import charts
from dsfn.billing.exports.paper import DeviceRow, Paper, Row, Section, Total
from dsfn.billing.exports.pdf_sheet import (
    ACCENT,
    INK,
    LEFT,
    LINE,
    MARK,
    SOFT,
    TOP,
    WIDTH,
    Align,
    Sheet,
)
from dsfn.billing.parties import Party

MAX_ROWS = 5_000
_Column = tuple[str, float, Align]
_SPACE = 8
_DEVICES: tuple[_Column, ...] = (
    ("Device", 167, "L"),
    ("Held", 80, "R"),
    ("Requests", 80, "R"),
    ("Restores", 80, "R"),
    ("Idle", 80, "R"),
)
_TOTALS_LEFT = LEFT + 210


def to_pdf(paper: Paper, fonts: Sequence[str] = ()) -> bytes:
    """The document. The same paper and fonts give the same bytes.

    `fonts`: files with the characters that Roboto has not. Raises `NotAcceptable` without the
    extra `invoices`, `UsageError` for a font that is none and for more than `MAX_ROWS` lines.
    """
    paper.require_at_most(MAX_ROWS, "A PDF")
    sheet = Sheet(paper, fonts)
    _head(sheet, paper)
    for section in paper.sections:
        _section(sheet, section, paper.currency)
    if not paper.sections:
        sheet.font(9, color=SOFT)
        sheet.paragraph("Nothing was used in this time.")
    _totals(sheet, paper.grand)
    _terms(sheet, paper.terms)
    for chart in paper.charts:
        _chart(sheet, chart)
    _devices(sheet, paper.devices)
    _foot(sheet, paper)
    return bytes(sheet.pdf.output())


def _head(sheet: Sheet, paper: Paper) -> None:
    half = WIDTH / 2
    sheet.font(22, bold=True)
    sheet.text(LEFT + half, TOP - 6, half, paper.title, "R")
    sheet.font(10, color=SOFT)
    sheet.text(LEFT + half, TOP + 22, half, paper.number, "R")
    if paper.mark:
        _mark(sheet, paper.mark)
    issuer = paper.issuer
    sheet.font(12, bold=True)
    sheet.lines(LEFT, half, sheet.wrapped(issuer.name, half))
    sheet.font(8.5, color=SOFT)
    sheet.lines(LEFT, half, [line for text in _about(issuer) for line in sheet.wrapped(text, half)])
    sheet.y = max(sheet.y, TOP + 40) + _SPACE
    sheet.rule(sheet.y, INK, 1.2)
    sheet.y += 16
    top = sheet.y
    if paper.recipient is not None:
        _recipient(sheet, paper.recipient, half - 20)
    below, sheet.y = sheet.y, top
    for label, text in paper.facts:
        sheet.font(9, color=SOFT)
        sheet.text(LEFT + half, sheet.y, 70, label)
        sheet.font(9)
        sheet.lines(LEFT + half + 70, half - 70, sheet.wrapped(text, half - 70), "R")
    sheet.y = max(below, sheet.y) + 14
    if paper.lead:
        _lead(sheet, paper.lead)


def _mark(sheet: Sheet, mark: str) -> None:
    sheet.font(9, bold=True, color=MARK)
    text = mark.upper()
    width = sheet.pdf.get_string_width(text) + 14
    x, y = LEFT + WIDTH - width, TOP + 24
    sheet.pdf.set_draw_color(*MARK)
    sheet.pdf.set_line_width(1)
    sheet.pdf.rect(x, y, width, 15)
    sheet.text(x, y + 1.5, width, text, "C")


def _about(party: Party) -> list[str]:
    tax = f"Tax ID {party.tax_id}" if party.tax_id else ""
    return [text for text in (*party.address, party.email, tax) if text]


def _recipient(sheet: Sheet, party: Party, width: float) -> None:
    sheet.font(8, color=SOFT)
    sheet.lines(LEFT, width, ["For"])
    sheet.font(10, bold=True)
    sheet.lines(LEFT, width, sheet.wrapped(party.name, width))
    sheet.font(9)
    for text in _about(party):
        sheet.lines(LEFT, width, sheet.wrapped(text, width))


def _lead(sheet: Sheet, text: str) -> None:
    sheet.font(9)
    top, height = sheet.y, sheet.line_height * len(sheet.wrapped(text, WIDTH - 22)) + 10
    sheet.pdf.set_fill_color(253, 244, 231)
    sheet.pdf.rect(LEFT, top, WIDTH, height, style="F")
    sheet.pdf.set_fill_color(*MARK)
    sheet.pdf.rect(LEFT, top, 2.5, height, style="F")
    sheet.y += 5
    sheet.lines(LEFT + 12, WIDTH - 22, sheet.wrapped(text, WIDTH - 22))
    sheet.y = top + height + 12


def _section(sheet: Sheet, section: Section, currency: str) -> None:
    if section.name:
        sheet.need(80)
        sheet.y += _SPACE
        sheet.font(11, bold=True)
        sheet.paragraph(section.name)
        sheet.y += 4
    columns: tuple[_Column, ...] = (
        ("Description", 163, "L"),
        ("Device", 110, "L"),
        ("Card", 22, "R"),
        ("Requests", 50, "R"),
        ("Billed time", 78, "R"),
        (currency, 64, "R"),
    )
    _table(sheet, columns, [_cells(row) for row in section.rows])
    _totals(sheet, section.totals)


def _cells(row: Row) -> tuple[str, ...]:
    name = f"{row.name}\n{row.detail}" if row.detail else row.name
    return (name, row.device, row.card, row.requests, row.time, row.amount)


def _table(sheet: Sheet, columns: Sequence[_Column], rows: Sequence[Sequence[str]]) -> None:
    """Rows under a heading, which every page has again."""

    def heading() -> None:
        sheet.font(8, bold=True, color=SOFT)
        x = float(LEFT)
        for label, width, align in columns:
            sheet.text(x, sheet.y, width, label, align)
            x += width
        sheet.y += sheet.line_height + 3
        sheet.rule(sheet.y, INK, 0.7)

    sheet.need(50)
    heading()
    sheet.heading = heading
    for row in rows:
        _row(sheet, columns, row)
    sheet.heading = None


def _row(sheet: Sheet, columns: Sequence[_Column], row: Sequence[str]) -> None:
    sheet.font(8.5)
    cells = [
        # Numbers are one line; between two texts there is a gap.
        [text] if align == "R" else [w for t in text.split("\n") for w in sheet.wrapped(t, room)]
        for text, (_, width, align) in zip(row, columns, strict=True)
        for room in [width - 8]
    ]
    details = row[0].count("\n")
    first = len(cells[0]) - len(sheet.wrapped(row[0].split("\n")[-1], columns[0][1] - 8)) * details
    height = max(map(len, cells)) * sheet.line_height + 7
    sheet.need(height)
    sheet.font(8.5)
    x = float(LEFT)
    for cell, (_, width, align) in zip(cells, columns, strict=True):
        for index, line in enumerate(cell):
            is_detail = cell is cells[0] and index >= first
            sheet.font(8.5, color=SOFT if is_detail else INK)
            sheet.text(x, sheet.y + 3.5 + index * sheet.line_height, width, line, align)
        x += width
    sheet.y += height
    sheet.rule(sheet.y)


def _totals(sheet: Sheet, totals: Sequence[Total]) -> None:
    """A block of sums that stays together, as far as it fits a page."""
    sheet.y += 6
    sheet.need(min(400, 15 * len(totals) + 16))
    width = LEFT + WIDTH - _TOTALS_LEFT
    for total in totals:
        sheet.need(20)
        if total.is_due:
            sheet.pdf.set_draw_color(*INK)
            sheet.pdf.set_line_width(1.2)
            sheet.pdf.line(_TOTALS_LEFT, sheet.y + 2, LEFT + WIDTH, sheet.y + 2)
            sheet.y += 6
        sheet.font(12 if total.is_due else 9, bold=total.is_due)
        top = sheet.y
        sheet.lines(_TOTALS_LEFT, width - 90, sheet.wrapped(total.label, width - 90))
        sheet.text(_TOTALS_LEFT, top, width, total.amount, "R")
        sheet.y += 2
    sheet.y += 6


def _terms(sheet: Sheet, terms: str) -> None:
    if terms:
        sheet.y += _SPACE
        sheet.font(9)
        sheet.need(sheet.line_height * 2)
        sheet.paragraph(terms)


def _chart(sheet: Sheet, chart: charts.Chart) -> None:
    height = chart.height / 1000
    sheet.y += 12
    sheet.need(height + 24)
    sheet.font(9, bold=True)
    sheet.lines(LEFT, WIDTH, [chart.title])
    sheet.y += 6
    pdf, top = sheet.pdf, sheet.y
    pdf.set_draw_color(*LINE)
    pdf.set_line_width(0.6)
    for line in chart.grid:
        x, y = LEFT + line.x / 1000, top + line.y / 1000
        pdf.line(x, y, x + line.width / 1000, y)
    pdf.set_fill_color(*ACCENT)
    for bar in chart.bars:
        if bar.width and bar.height:
            x, y = LEFT + bar.x / 1000, top + bar.y / 1000
            pdf.rect(x, y, bar.width / 1000, bar.height / 1000, style="F")
    size = charts.TEXT_SIZE / 1000
    sheet.font(size, color=SOFT)
    for text in chart.texts:
        width = sheet.pdf.get_string_width(sheet.shown(text.text))
        x = LEFT + text.x / 1000 - {"start": 0, "middle": width / 2, "end": width}[text.anchor]
        # A line's box has its base line at about three quarters.
        sheet.text(x, top + text.y / 1000 - size * 1.02, width, text.text)
    sheet.y = top + height


def _devices(sheet: Sheet, devices: Sequence[DeviceRow]) -> None:
    if not devices:
        return
    sheet.y += 18
    sheet.need(60)
    sheet.font(10, bold=True)
    sheet.paragraph("Time of the devices")
    sheet.y += 4
    _table(
        sheet, _DEVICES, [(d.device_class, d.held, d.requests, d.restore, d.idle) for d in devices]
    )


def _foot(sheet: Sheet, paper: Paper) -> None:
    sheet.y += 16
    sheet.font(7.5, color=SOFT)
    for note in paper.notes:
        sheet.paragraph(note)
    if paper.seal is not None:
        sheet.y += 6
        sheet.need(40)
        sheet.paragraph(f"SHA-256 of the document {paper.seal.digest}")
        sheet.paragraph(f"Ed25519 signature {paper.seal.signature}")
        sheet.paragraph(f"by the key {paper.seal.key}")
