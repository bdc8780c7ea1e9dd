"""Charts as rectangles and texts, in whole numbers: HTML and PDF draw the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from unicodedata import east_asian_width

from dsfn.billing.exports.texts import amount_text
from dsfn.functions.values import dataclass

Orientation = Literal["columns", "rows"]

# Of a chart, in thousandths of a point; 1/72 inch is a point.
WIDTH = 487_000
COLUMNS_HEIGHT = 118_000
ROW_HEIGHT = 15_000
TEXT_SIZE = 7_500
_AXIS_WIDTH = 52_000
_AXIS_HEIGHT = 14_000
_NAMES_WIDTH = 150_000
_NAME_CHARS = 34
_VALUES_WIDTH = 72_000
_TOP = 6_000
_TICKS = 4
MAX_ROWS = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """One value of a chart. `label`: what a column has below it, where there is room for that.
    `amount`: in minor units of the currency."""

    name: str
    amount: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A bar, or a line of the grid, with the upper left corner at `x`, `y`. `title`: in words."""

    x: int
    y: int
    width: int
    height: int
    title: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A text at a point of its base line; `anchor`: which part of the text is there."""

    x: int
    y: int
    text: str
    anchor: Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that is laid out, `WIDTH` wide."""

    title: str
    height: int
    grid: tuple[Rectangle, ...]
    bars: tuple[Rectangle, ...]
    texts: tuple[Text, ...]


def columns(title: str, bars: Sequence[Bar], exponent: int) -> Chart:
    """Bars beside each other, such as the days of a month, over a scale with round numbers."""
    step = _step(max((bar.amount for bar in bars), default=0))
    top = step * _TICKS
    base = COLUMNS_HEIGHT - _AXIS_HEIGHT
    pitch = (WIDTH - _AXIS_WIDTH) // max(1, len(bars))
    gap = pitch // 5
    drawn: list[Rectangle] = []
    texts: list[Text] = []
    for index, bar in enumerate(bars):
        height = max(0, bar.amount) * (base - _TOP) // top
        left = _AXIS_WIDTH + index * pitch
        words = f"{bar.name}: {amount_text(bar.amount, exponent)}"
        drawn.append(Rectangle(left + gap, base - height, pitch - 2 * gap, height, words))
        if bar.label:
            middle = left + pitch // 2
            texts.append(Text(middle, COLUMNS_HEIGHT - 3_000, bar.label, "middle"))
    grid: list[Rectangle] = []
    for tick in range(_TICKS + 1):
        y = base - tick * (base - _TOP) // _TICKS
        grid.append(Rectangle(_AXIS_WIDTH, y, WIDTH - _AXIS_WIDTH, 0))
        label = amount_text(tick * step, exponent)
        texts.append(Text(_AXIS_WIDTH - 5_000, y + 2_600, label, "end"))
    return Chart(title, COLUMNS_HEIGHT, tuple(grid), tuple(drawn), tuple(texts))


def rows(title: str, bars: Sequence[Bar], exponent: int) -> Chart:
    """Bars below each other with their names and amounts: the `MAX_ROWS` largest, and the rest
    as one."""
    shown = _largest(bars)
    most = max(1, max((bar.amount for bar in shown), default=0))
    room = WIDTH - _NAMES_WIDTH - _VALUES_WIDTH
    drawn: list[Rectangle] = []
    texts: list[Text] = []
    for index, bar in enumerate(shown):
        y = index * ROW_HEIGHT
        width = max(0, bar.amount) * room // most
        value = amount_text(bar.amount, exponent)
        drawn.append(
            Rectangle(_NAMES_WIDTH, y + 3_000, width, ROW_HEIGHT - 6_000, f"{bar.name}: {value}")
        )
        line = y + ROW_HEIGHT // 2 + 2_600
        texts.append(Text(_NAMES_WIDTH - 6_000, line, _clipped(bar.name), "end"))
        texts.append(Text(_NAMES_WIDTH + width + 5_000, line, value, "start"))
    return Chart(title, max(1, len(shown)) * ROW_HEIGHT, (), tuple(drawn), tuple(texts))


def _largest(bars: Sequence[Bar]) -> list[Bar]:
    ordered = sorted(bars, key=lambda bar: (-bar.amount, bar.name))
    if len(ordered) <= MAX_ROWS:
        return ordered
    rest = ordered[MAX_ROWS - 1 :]
    others = Bar(f"{len(rest)} others", sum(bar.amount for bar in rest))
    return [*ordered[: MAX_ROWS - 1], others]


def _clipped(name: str) -> str:
    """A name that has room beside its bar; a wide character counts twice."""
    width = 0
    for index, character in enumerate(name):
        width += 2 if east_asian_width(character) in "WF" else 1
        if width > _NAME_CHARS:
            return name[: index - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return name


def _step(most: int) -> int:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten of which `_TICKS` reach `most`."""
    power = 1
    while True:
        for tenths in (10, 20, 25, 50):
            step, rest = divmod(tenths * power, 10)
            if rest == 0 and step * _TICKS >= most:
                return step
        power *= 10
