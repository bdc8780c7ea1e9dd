"""Bills in HTML and as PDF."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from bills import LINES, USAGE, bill, invoice
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from pypdf import PdfReader

from dsfn.billing.exports import html, pdf
from dsfn.billing.exports.charts import WIDTH
from dsfn.billing.exports.html import to_html
from dsfn.billing.exports.paper import Paper, Seal, paper_of_invoice, paper_of_statement
from dsfn.billing.exports.pdf import to_pdf
from dsfn.billing.invoice import DayAmount
from dsfn.billing.lines import Line
from dsfn.billing.parties import Party
from dsfn.functions.errors import UsageError

SEAL = Seal("ab" * 32, "c2lnbmF0dXJl", "12" * 32)
TextOf = Callable[[Paper], str]
EVIL = '<script>alert("1")</script>&amp;'


class _Page(HTMLParser):
    """The text of a page, and whatever it would load."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self._in_style = False
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in_style = tag == "style"
        self.loads += [
            f"{name}={value}" for name, value in attrs if name in ("src", "href", "srcset")
        ]

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loads += [word for word in ("url(", "@import", "http") if word in data]
        else:
            self.words.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def html_text(paper: Paper) -> str:
    return _Page(to_html(paper)).text


def pdf_text(paper: Paper) -> str:
    pages = PdfReader(io.BytesIO(to_pdf(paper))).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


@pytest.mark.parametrize("text_of", [html_text, pdf_text])
def test_an_invoice_says_all_that_an_invoice_must(text_of: TextOf) -> None:
    text = text_of(paper_of_invoice(invoice(), SEAL))
    for words in (
        "Invoice", "2026-11-0007", "Northwind GmbH", "Speicherstraße 12", "Tax ID DE 812",
        "Acme S.à r.l.", "Tax ID LU 123", "1 December 2026", "1 \N{EN DASH} 30 November 2026",
        "31 December 2026", "embed-text", "NVIDIA L4", "1,234", "41,401.000001 s", "4,142.00",
        "correction of 2026-10", "Free of charge", "\N{MINUS SIGN}3.60", "Graduated tiers",
        "Discount 10 %", "\N{MINUS SIGN}413.69", "Minimum for a month", "VAT 19 %", "707.56",
        "EUR 4,431.57", "Please pay to IBAN DE02.", "Usage by day", "Usage by function",
        SEAL.digest, SEAL.signature,
    ):  # fmt: skip
        assert words in text, words
    assert "stimate" not in text.replace("ESTIMATE", "stimate")


@pytest.mark.parametrize("text_of", [html_text, pdf_text])
def test_what_is_no_invoice_yet_is_marked_as_an_estimate(text_of: TextOf) -> None:
    draft = text_of(paper_of_invoice(invoice(number="", status="open", due_on="")))
    statement = text_of(paper_of_statement(bill(), Party("Northwind GmbH")))
    for text in (draft, statement):
        assert "estimate" in text.lower()
        assert "SHA-256" not in text
    assert "EUR 10,000.00" in statement


@pytest.mark.parametrize("text_of", [html_text, pdf_text])
def test_a_credit_note_names_its_invoice_and_asks_for_no_money(text_of: TextOf) -> None:
    note = invoice(
        number="CN-1",
        kind="credit",
        reverses="2026-11-0007",
        reason="A fault on the 12th.",
        due_on="",
        days=(),
        lines=(Line("credit", "acme", amount_minor=-5_000, note="as agreed"),),
    )
    text = text_of(paper_of_invoice(note, SEAL))
    for words in ("Credit note", "CN-1", "2026-11-0007", "A fault on the 12th.", "As agreed"):
        assert words in text
    assert "EUR \N{MINUS SIGN}50.00" in text
    assert "Please pay" not in text and "Due" not in text


@pytest.mark.parametrize(
    ("currency", "exponent", "total"),
    [("JPY", 0, "JPY 443,157"), ("KWD", 3, "KWD 443.157"), ("USD", 2, "USD 4,431.57")],
)
def test_amounts_have_the_decimals_of_their_currency(
    currency: str, exponent: int, total: str
) -> None:
    paper = paper_of_invoice(invoice(currency=currency, exponent=exponent))
    assert total in html_text(paper)
    assert total in pdf_text(paper)


def test_what_users_name_is_text_in_html_and_nothing_else() -> None:
    lines = tuple(
        replace(USAGE, function=EVIL, device_class=EVIL, revision=EVIL, tenant=tenant)
        for tenant in (EVIL, "other")
    )
    days = (DayAmount("2026-11-03", EVIL, 1, 5, 5),)
    papers = (
        paper_of_statement(bill(lines=lines), Party(EVIL, (EVIL,)), days),
        paper_of_invoice(
            invoice(lines=lines, days=days, customer=Party(EVIL), tenant=EVIL, terms=EVIL),
            Seal(EVIL, EVIL, EVIL),
        ),
    )
    for paper in papers:
        page = _Page(to_html(paper))
        assert "script" not in page.tags
        assert EVIL in page.text


def test_what_nobody_sees_is_written_as_its_number() -> None:
    paper = paper_of_invoice(invoice(lines=(replace(USAGE, function="a\u202eb\nc"),)))
    for text in (html_text(paper), pdf_text(paper)):
        assert "a<U+202E>b<U+000A>c" in text


def test_a_page_needs_nothing_from_elsewhere() -> None:
    page = _Page(to_html(paper_of_invoice(invoice(), SEAL)))
    assert page.loads == []
    assert page.tags.count("svg") == 2


def test_a_document_is_printed_with_the_same_bytes_in_every_process() -> None:
    script = (
        "import sys, hashlib; from bills import invoice;"
        "from dsfn.billing.exports.paper import paper_of_invoice;"
        "from dsfn.billing.exports.html import to_html;"
        "from dsfn.billing.exports.pdf import to_pdf;"
        "paper = paper_of_invoice(invoice());"
        "print(hashlib.sha256(to_html(paper) + to_pdf(paper)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(__file__).parent,
            env={"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }
    assert len(digests) == 1


def test_a_pdf_bears_the_date_of_the_document() -> None:
    about = PdfReader(io.BytesIO(to_pdf(paper_of_invoice(invoice())))).metadata
    assert about is not None
    assert (about.title, about.author) == ("Invoice 2026-11-0007", "Northwind GmbH")
    assert about.creation_date is not None
    assert about.creation_date.date().isoformat() == "2026-12-01"


def test_a_long_table_has_its_heading_on_every_page() -> None:
    lines = tuple(replace(USAGE, function=f"function-{i:03}") for i in range(200))
    pages = PdfReader(io.BytesIO(to_pdf(paper_of_invoice(invoice(lines=lines, days=()))))).pages
    texts = [page.extract_text() for page in pages]
    assert len(texts) > 3
    for index, text in enumerate(texts, 1):
        assert f"Page {index} of {len(texts)}" in text
        assert ("Description" in text) == ("function-" in text)
    assert sum(text.count("function-") for text in texts) == 200
    assert "thead { display: table-header-group; }" in to_html(paper_of_invoice(invoice())).decode()


@pytest.mark.parametrize(("module", "draw"), [(html, to_html), (pdf, to_pdf)])
def test_paper_takes_no_more_lines_than_it_may(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, draw: Callable[[Paper], bytes]
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    with pytest.raises(UsageError, match="at most 2 lines"):
        draw(paper_of_invoice(invoice()))


def test_names_of_any_length_stay_on_their_page() -> None:
    lines = (replace(USAGE, function="x" * 1024, device_class="word " * 200),)
    text = pdf_text(paper_of_invoice(invoice(lines=lines, customer=Party("y" * 200))))
    assert text.count("x") >= 1024
    assert text.count("word") == 200


def font_with(path: Path, characters: str) -> str:
    """A font that has those characters, each of them a box, and no others."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = [".notdef", *(f"uni{ord(character):04X}" for character in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(c): f"uni{ord(c):04X}" for c in characters})
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Boxes", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return str(path)


def test_characters_come_from_another_font_or_are_written_as_numbers(tmp_path: Path) -> None:
    paper = paper_of_invoice(invoice(customer=Party("東京")))
    assert "<U+6771><U+4EAC>" in pdf_text(paper)
    assert "東京" in html_text(paper)
    printed = to_pdf(paper, [font_with(tmp_path / "boxes.ttf", "東京")])
    assert "東京" in PdfReader(io.BytesIO(printed)).pages[0].extract_text()


def test_a_file_that_is_no_font_is_refused(tmp_path: Path) -> None:
    no_font = tmp_path / "no-font.ttf"
    no_font.write_text("no font")
    for path in (no_font, tmp_path / "missing.ttf"):
        with pytest.raises(UsageError, match="is not a font"):
            to_pdf(paper_of_invoice(invoice()), [str(path)])


def test_every_tenant_has_a_section_and_a_total_of_its_own() -> None:
    lines = (*LINES, replace(USAGE, tenant="bolt", amount_minor=100))
    total = sum(line.amount_minor for line in lines)
    paper = paper_of_statement(bill(lines=lines, tenant=None, total_minor=total), Party("N"))
    for text in (html_text(paper), pdf_text(paper)):
        for words in ("acme", "EUR 4,431.57", "bolt", "EUR 1.00", "EUR 4,432.57"):
            assert words in text


def test_a_bill_without_usage_says_so() -> None:
    empty = bill(lines=(), total_minor=0, devices=(), expected_minor=None)
    paper = paper_of_statement(empty, Party("Northwind GmbH"))
    for text in (html_text(paper), pdf_text(paper)):
        assert "Nothing was used in this time." in text
        assert "EUR 0.00" in text


def test_a_year_is_drawn_by_month() -> None:
    days = tuple(DayAmount(f"2026-{month:02}-15", "embed", 1, 10**9, 100) for month in range(1, 13))
    year = bill(month=None, start_us=1_767_225_600_000_000, end_us=1_798_761_600_000_000)
    timeline, _ = paper_of_statement(year, Party("N"), days).charts
    assert timeline.title.startswith("Usage by month")
    assert [bar.title for bar in timeline.bars] == [f"2026-{m:02}: 1.00" for m in range(1, 13)]


def test_of_many_functions_the_smallest_are_one_bar() -> None:
    days = tuple(DayAmount("2026-11-03", f"f-{n:02}", 1, n * 10**9, n * 100) for n in range(1, 21))
    _, chart = paper_of_invoice(invoice(days=days)).charts
    assert len(chart.bars) == 8
    assert chart.bars[0].title == "f-20: 20.00"
    assert chart.bars[-1].title == "13 others: 91.00"
    assert max(bar.x + bar.width for bar in chart.bars) <= WIDTH
