"""What the command line prints: one JSON document, tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dsfn.functions.values import dataclass

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer
    from rich.text import Text


class OutputFailed(Exception):
    """Standard output takes no more. Not an OSError, which would be taken for another's."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Output(io.FileIO):
    """A descriptor whose failed writes are told apart from those of other files."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            # What is still buffered would fail once more at the interpreter's end.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            raise OutputFailed(error) from error


def result_stream(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Standard output for results. Its writes raise `OutputFailed`; characters that its
    encoding has not are escaped."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. Numbers go to the right."""

    name: str
    right: bool = False


_STYLES = {
    "ready": "green",
    "busy": "green",
    "ok": "green",
    "succeeded": "green",
    "starting": "yellow",
    "running": "yellow",
    "warn": "yellow",
    "parked": "cyan",
    "absent": "dim",
    "waiting": "dim",
    "skipped": "dim",
    "cancelled": "magenta",
    "fail": "red",
    "failed": "red",
}


def on_terminal() -> bool:
    """Whether a person reads standard output as it is written."""
    return sys.stdout.isatty()


def json_text(document: object) -> str:
    """A document as `--json` shows it."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def print_json(document: object) -> None:
    """The one document of a command called with `--json`."""
    say(json_text(document))


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Rows under their columns' names; the sentence `empty` when there are none."""
    if not rows:
        say(empty)
    elif on_terminal():
        _print_rich_table(columns, rows)
    else:
        _print_plain_table(columns, rows)


def print_fields(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, a line each."""
    rows = list(pairs)
    if not on_terminal():
        for name, value in rows:
            say(f"{name}: {value}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        grid.add_row(Text(name, style="bold"), _cell(value))
    Console().print(grid)


def say(text: str = "", end: str = "\n", flush: bool = False) -> None:
    """Text on standard output, where results go."""
    sys.stdout.write(text + end)
    if flush:
        sys.stdout.flush()


def print_bytes(content: bytes) -> None:
    """A file's content on standard output."""
    sys.stdout.flush()
    sys.stdout.buffer.write(content)


def complain(sentence: str) -> None:
    """A sentence for the person, on standard error."""
    sys.stderr.write(sentence + "\n")


def style_of(state: str | None) -> str:
    """How a state is shown on a terminal, in rich's words; "" when it is nothing special."""
    return _STYLES.get(state or "", "")


def size(count: int) -> str:
    """A number of bytes for people: "90.9 MB"."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def local_time(rfc3339: str) -> str:
    """A document's time in this machine's time zone, to the second."""
    return datetime.fromisoformat(rfc3339).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def exact_local_time(rfc3339: str) -> str:
    """The same with what it has of a second."""
    fraction = datetime.fromisoformat(rfc3339).strftime(".%f").rstrip("0").rstrip(".")
    return f"{local_time(rfc3339)}{fraction}"


def item_words(item: object) -> str:
    """Which item of a fan-out: "[3]", "[3][0]", "" for none."""
    items = item if isinstance(item, list) else [] if item is None else [item]
    return "".join(f"[{each}]" for each in items)


def _cell(value: str) -> Text:
    from rich.text import Text

    return Text(value, style=style_of(value))


def _print_rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.name, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    Console().print(table)


def _print_plain_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    lines = [[column.name.upper() for column in columns], *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        cells = (
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        )
        say("  ".join(cells).rstrip())
