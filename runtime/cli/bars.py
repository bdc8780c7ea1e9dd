"""The phases of a call as bars, each where the one before it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

from dsfn.functions.values import dataclass

BAR_WIDTH = 40
PHASE_COLOURS = {"queue": "yellow", "start": "magenta", "restore": "cyan", "execute": "green"}


@dataclass(frozen=True, slots=True)
class Span:
    """A phase in time. One that is called `restore.copy` is a part of the phase `restore`."""

    name: str
    start_us: int
    duration_us: int

    @property
    def end_us(self) -> int:
        """When it ended."""
        return self.start_us + self.duration_us

    @property
    def phase(self) -> str:
        """The phase that it is, or is a part of."""
        return self.name.partition(".")[0]

    @property
    def is_part(self) -> bool:
        """Whether it lies within another."""
        return "." in self.name

    @property
    def label(self) -> str:
        """Its name, without that of its phase."""
        return self.name.rpartition(".")[2]


def spans(phases_us: Mapping[str, int]) -> tuple[Span, ...]:
    """The phases one after the other, and within each its parts one after the other."""
    return tuple(_spans(phases_us))


def _spans(phases_us: Mapping[str, int]) -> Iterator[Span]:
    end_us = part_us = 0
    for name, duration_us in phases_us.items():
        if "." in name:
            yield Span(name, part_us, duration_us)
            part_us += duration_us
        else:
            yield Span(name, end_us, duration_us)
            part_us, end_us = end_us, end_us + duration_us


def bars(found: Sequence[Span], total_us: int, width: int = BAR_WIDTH) -> list[str]:
    """One line for each phase, the last for all of it."""
    scale = max(1, total_us, *(span.end_us for span in found))
    names = [f"  {span.label}" if span.is_part else span.name for span in found]
    column = max(9, *(len(name) for name in names))
    lines = []
    for name, span in zip(names, found, strict=True):
        first = round(span.start_us * width / scale)
        last = round(span.end_us * width / scale)
        visible = "█" * (last - first) or ("▏" if span.duration_us else "")
        bar = " " * first + visible
        lines.append(f"{name:<{column}} {span.duration_us / 1000:>9.1f} ms  {bar}".rstrip())
    lines.append(f"{'total':<{column}} {total_us / 1000:>9.1f} ms")
    return lines


def call_spans(phases_us: Mapping[str, int], total_us: int) -> tuple[Span, ...]:
    """The phases of a call, and `transport`: what the client saw beyond them."""
    found = spans(phases_us)
    told_us = max((span.end_us for span in found), default=0)
    return (*found, Span("transport", told_us, max(0, total_us - told_us)))


def print_bars(found: Sequence[Span], total_us: int, *, beside_result: bool) -> None:
    """The bars: on standard error where a result has standard output for itself."""
    stream = sys.stderr if beside_result else sys.stdout
    lines = bars(found, total_us)
    if not stream.isatty():
        stream.write("\n".join(lines) + "\n")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream)
    styles = [PHASE_COLOURS.get(span.phase, "dim") for span in found]
    for line, style in zip(lines, [*styles, "dim"], strict=True):
        console.print(Text(line, style=style))
