"""Pages of a PDF: fonts, texts that wrap, page breaks. Lengths are points, 1/72 inch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dsfn.billing.exports.extra import require_extra
from dsfn.billing.exports.paper import Paper
from dsfn.functions.errors import UsageError

if TYPE_CHECKING:
    from fpdf import FPDF

LEFT, TOP, BOTTOM = 54, 54, 64
PAGE_WIDTH, PAGE_HEIGHT = 595, 842
WIDTH = PAGE_WIDTH - 2 * LEFT
LEADING = 1.35
Color = tuple[int, int, int]
Align = Literal["L", "C", "R"]
INK: Color = (22, 32, 43)
SOFT: Color = (91, 104, 116)
LINE: Color = (215, 221, 227)
ACCENT: Color = (29, 95, 168)
MARK: Color = (168, 89, 10)
_FAMILY = "body"
_FALLBACK = "fallback-"


class Sheet:
    """Pages that are written from the top down; `y` is where it goes on.

    What has no room is on a next page, `heading` above it. `fonts`: files with the characters
    that the first font, Roboto, has not; a character that none has is written as its number.
    """

    def __init__(self, paper: Paper, fonts: Sequence[str] = ()) -> None:
        """Raises `NotAcceptable` without the extra `invoices`, `UsageError` for a font that is
        none."""
        for path in fonts:
            _check_font(path)
        self.pdf = _document(paper)
        self.heading: Callable[[], None] | None = None
        _add_fonts(self.pdf, fonts)
        self._known = {
            code for font in self.pdf.fonts.values() for code in getattr(font, "cmap", ())
        }
        self.font(9)
        self.y = 0.0
        self.new_page()

    def new_page(self) -> None:
        """Goes on at the top of another page."""
        self.pdf.add_page()
        self.y = TOP
        if self.heading is not None:
            self.heading()

    def need(self, height: float) -> None:
        """Goes on at the next page if this one has not so much room left."""
        if self.y + height > PAGE_HEIGHT - BOTTOM:
            self.new_page()

    def font(self, size: float, bold: bool = False, color: Color = INK) -> None:
        """What the next texts look like."""
        self.pdf.set_font(_FAMILY, "B" if bold else "", size)
        self.pdf.set_text_color(*color)

    def text(self, x: float, y: float, width: float, text: str, align: Align = "L") -> None:
        """One line of text whose upper left corner is at `x`, `y`."""
        self.pdf.set_xy(x, y)
        height = self.pdf.font_size_pt * LEADING
        self.pdf.cell(width, height, self.shown(text), align=align)

    def lines(self, x: float, width: float, lines: Sequence[str], align: Align = "L") -> None:
        """Lines of text from `y` on, on one page."""
        for line in lines:
            self.text(x, self.y, width, line, align)
            self.y += self.line_height

    def paragraph(self, text: str) -> None:
        """Text over all of the width, on as many pages as it takes."""
        for line in self.wrapped(text, WIDTH):
            self.need(self.line_height)
            self.lines(LEFT, WIDTH, [line])

    @property
    def line_height(self) -> float:
        """Of the font that is set."""
        return self.pdf.font_size_pt * LEADING

    def rule(self, y: float, color: Color = LINE, thickness: float = 0.5) -> None:
        """A line over all of the width."""
        self.pdf.set_draw_color(*color)
        self.pdf.set_line_width(thickness)
        self.pdf.line(LEFT, y, LEFT + WIDTH, y)

    def wrapped(self, text: str, width: float) -> list[str]:
        """A text as lines of at most that width; words that are too long are broken."""
        text = self.shown(text)
        if self._width(text) <= width:
            return [text]
        return list(self._broken(text.split(" "), width))

    def shown(self, text: str) -> str:
        """The text as far as there are characters for it."""
        if all(ord(character) in self._known for character in text):
            return text
        return "".join(c if ord(c) in self._known else f"<U+{ord(c):04X}>" for c in text)

    def _broken(self, words: Sequence[str], width: float) -> Iterator[str]:
        line = ""
        for word in words:
            joined = f"{line} {word}" if line else word
            if self._width(joined) <= width:
                line = joined
                continue
            if line:
                yield line
            *full, line = self._pieces(word, width)
            yield from full
        yield line

    def _pieces(self, word: str, width: float) -> list[str]:
        pieces, piece = [], ""
        for character in word:
            if piece and self._width(piece + character) > width:
                pieces.append(piece)
                piece = ""
            piece += character
        return [*pieces, piece]

    def _width(self, text: str) -> float:
        # A cell has the margin `c_margin`, which is 0 here; the rest is for fractions.
        return float(self.pdf.get_string_width(text)) + 0.01


def _document(paper: Paper) -> FPDF:
    with require_extra("PDF"):
        from fpdf import FPDF

    from datetime import UTC, datetime

    class Document(FPDF):
        """Every page has the document's name and its number at the foot."""

        def footer(self) -> None:
            self.set_font(_FAMILY, "", 7.5)
            self.set_text_color(*SOFT)
            self.set_xy(LEFT, PAGE_HEIGHT - 42)
            self.cell(WIDTH, 10, " ".join((paper.title, paper.number)).strip())
            # On the right, with room for the number of pages, which is put in at the end.
            self.set_xy(LEFT + WIDTH - 48, PAGE_HEIGHT - 42)
            self.cell(48, 10, f"Page {self.page_no()} of {{nb}}")

    pdf = Document(unit="pt", format=(PAGE_WIDTH, PAGE_HEIGHT))
    pdf.set_auto_page_break(False)
    pdf.c_margin = 0
    pdf.set_creation_date(datetime.combine(paper.made_on, datetime.min.time(), UTC))
    pdf.set_lang("en")
    pdf.set_title(" ".join((paper.title, paper.number)).strip())
    pdf.set_author(paper.issuer.name)
    pdf.set_creator("dsfn")
    pdf.set_producer("dsfn")
    return pdf


def _add_fonts(pdf: FPDF, fonts: Sequence[str]) -> None:
    with require_extra("PDF"):
        roboto = files("font_roboto")
    for style, weight in (("", "Regular"), ("B", "Bold")):
        pdf.add_font(_FAMILY, style, str(roboto / "files" / f"Roboto-{weight}.ttf"))
    for index, path in enumerate(fonts):
        pdf.add_font(f"{_FALLBACK}{index}", "", path)
    pdf.set_fallback_fonts([f"{_FALLBACK}{i}" for i in range(len(fonts))], exact_match=False)


def _check_font(path: str) -> None:
    with require_extra("PDF"):
        from fontTools.ttLib import TTFont, TTLibError
    try:
        with Path(path).open("rb") as file:
            TTFont(file, lazy=True, fontNumber=0).getBestCmap()
    except (OSError, TTLibError, KeyError) as error:
        raise UsageError(f"{path} is not a font that a PDF can have: {error}.") from error
