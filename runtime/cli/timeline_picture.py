"""The phases of a cold call as a PNG: a bar for each, over an axis of milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING

from dsfn.functions.errors import DsfnError, UsageError
from dsfn.runtime.cli.bars import Span

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

WIDTH = 1200
MIN_HEIGHT = 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 160, 200, 96, 64
_EDGE = 24
_MIN_ROW = 34
_TITLE, _TEXT, _SMALL = 28, 20, 17
_INK, _FAINT, _GRID, _PAPER = "#1f2933", "#616e7c", "#e4e7eb", "#ffffff"
_COLOURS = {"queue": "#e9b949", "start": "#9f7aea", "restore": "#2b8fb3", "execute": "#3c9d5f"}
_OTHER = "#829ab1"


def draw_timeline(path: Path, title: str, subtitle: str, found: Sequence[Span]) -> None:
    """Writes the picture. `found` holds at least one phase.

    Raises `UsageError` when Pillow is not installed, `DsfnError` when the file cannot be written.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise UsageError("A picture needs Pillow: run `pip install 'dsfn[media]'`.") from None
    height = max(MIN_HEIGHT, _TOP + _BOTTOM + _MIN_ROW * len(found))
    image = Image.new("RGB", (WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_EDGE, 20), title, _INK, _fitting(draw, title, _TITLE))
    draw.text((_EDGE, 58), subtitle, _FAINT, _fitting(draw, subtitle, _SMALL))
    scale_us = max(1, *(span.end_us for span in found))
    _draw_axis(draw, height, scale_us)
    row = (height - _TOP - _BOTTOM) / len(found)
    for number, span in enumerate(found):
        _draw_bar(draw, span, _TOP + row * number, row, scale_us)
    try:
        image.save(path, "PNG")
    except OSError as error:
        raise DsfnError(f"{path} cannot be written: {error.strerror}.") from error


def _draw_axis(draw: ImageDraw, height: int, scale_us: int) -> None:
    """Lines at round numbers of milliseconds, and what the axis says."""
    bottom, font = height - _BOTTOM, _font(_SMALL)
    for tick_us, words in ticks(scale_us):
        x = _x(tick_us, scale_us)
        draw.line((x, _TOP, x, bottom), _GRID)
        draw.text((x, bottom + 6), words, _FAINT, font, "ma")
    draw.line((_LEFT, bottom, WIDTH - _RIGHT, bottom), _FAINT)
    words = "milliseconds since the call arrived"
    draw.text(((_LEFT + WIDTH - _RIGHT) / 2, height - 12), words, _FAINT, font, "ms")


def ticks(scale_us: int) -> Iterator[tuple[int, str]]:
    """Four to ten round numbers from 0 to `scale_us`, with their words in milliseconds."""
    rough_us = scale_us / 8
    power = 10 ** floor(log10(max(1.0, rough_us)))
    step_us = next(int(step * power) for step in (1, 2, 5, 10) if step * power >= rough_us)
    for tick_us in range(0, scale_us + 1, step_us):
        yield tick_us, f"{tick_us / 1000:g}"


def _draw_bar(draw: ImageDraw, span: Span, top: float, row: float, scale_us: int) -> None:
    """A name to the left, a bar, and to the right of it how long it was."""
    middle = top + row / 2
    half = min(row, 48) * (0.22 if span.is_part else 0.36)
    font = _font(_SMALL if span.is_part else _TEXT)
    ink = _FAINT if span.is_part else _INK
    draw.text((_LEFT - 14, middle), span.label, ink, font, "rm")
    first, last = _x(span.start_us, scale_us), _x(span.end_us, scale_us)
    colour = _COLOURS.get(span.phase, _OTHER)
    # A phase of no length is still to be seen at its place.
    draw.rectangle((first, middle - half, max(last, first + 2), middle + half), colour)
    share = 100 * span.duration_us / scale_us
    words = f"{span.duration_us / 1000:,.1f} ms  ({share:.0f} %)"
    draw.text((max(last, first + 2) + 10, middle), words, ink, font, "lm")


def _x(at_us: float, scale_us: int) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * at_us / scale_us


def _fitting(draw: ImageDraw, text: str, size: int) -> FreeTypeFont | ImageFont:
    """The font of this size, or smaller as far as the text needs it to stay in the picture."""
    room = WIDTH - 2 * _EDGE
    return _font(min(size, int(size * room / max(1, draw.textlength(text, font=_font(size))))))


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
