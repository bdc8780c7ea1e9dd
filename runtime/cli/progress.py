"""How work that takes a while goes on, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dsfn.functions.values import dataclass
from dsfn.runtime.cli.output import complain


@dataclass(frozen=True, slots=True)
class Progress:
    """`show` says what is so at the moment; `keep` what is to stand there afterwards, too."""

    show: Callable[[str], None]
    keep: Callable[[str], None]


@contextmanager
def progress(began: str) -> Iterator[Progress]:
    """On a terminal one line that changes, `began` at first; elsewhere a line for each sentence,
    but for those that were said before: what goes back and forth would fill a log."""
    if not sys.stderr.isatty():
        said: set[str] = set()

        def once(sentence: str) -> None:
            if sentence not in said:
                said.add(sentence)
                complain(sentence)

        yield Progress(once, once)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with console.status(Text(began)) as status:
        yield Progress(
            lambda sentence: status.update(Text(sentence)),
            lambda sentence: console.print(Text(sentence)),
        )
