"""The phases of a call as bars, each where the one before it ends."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from dsfn.runtime.cli.output import complain

BAR_WIDTH = 40

_STYLES = {"queue": "yellow", "start": "magenta", "restore": "cyan", "execute": "green"}


def bars(phases_us: Mapping[str, int], total_us: int, width: int = BAR_WIDTH) -> list[str]:
    """One line for each phase and for `transport`, what the client saw beyond them."""
    transport_us = max(0, total_us - sum(phases_us.values()))
    rows = {**phases_us, "transport": transport_us}
    scale = max(1, sum(rows.values()))
    lines, start_us = [], 0
    for name, duration_us in rows.items():
        first = round(start_us * width / scale)
        last = round((start_us + duration_us) * width / scale)
        visible = "█" * (last - first) or ("▏" if duration_us else "")
        bar = " " * first + visible
        lines.append(f"{name:<9} {duration_us / 1000:>9.1f} ms  {bar}".rstrip())
        start_us += duration_us
    lines.append(f"{'total':<9} {total_us / 1000:>9.1f} ms")
    return lines


def print_bars(phases_us: Mapping[str, int], total_us: int) -> None:
    """The bars on standard error, so that a piped result stays clean."""
    lines = bars(phases_us, total_us)
    if not sys.stderr.isatty():
        complain("\n".join(lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    for line in lines:
        console.print(Text(line, style=_STYLES.get(line.partition(" ")[0], "dim")))
