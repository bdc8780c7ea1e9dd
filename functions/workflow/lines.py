"""Where in the author's code something went wrong."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterator
from inspect import unwrap
from pathlib import Path
from types import CodeType, FrameType, TracebackType

from dsfn.functions.values import dataclass

_NOT_THE_AUTHORS = (
    f"{Path(__file__).parents[1]}{os.sep}",
    str(Path(linecache.__file__).parent),
    "<",
)
_MAX_TEXT_CHARS = 80


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, and what is written in it."""

    file: str
    number: int
    text: str

    def __str__(self) -> str:
        shown = f", `{self.text}`" if self.text else ""
        return f"{self.file}, line {self.number}{shown}"


def calling_line() -> Line | None:
    """The author's line that is being run: the innermost that is neither of this package nor of
    an installed one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_authors(frame.f_code):
            return _line(frame.f_code, frame.f_lineno)
        frame = frame.f_back
    return None


def failing_line(error: BaseException) -> Line | None:
    """The innermost of the author's lines that an exception came through."""
    steps = [s for s in _steps(error.__traceback__) if _is_authors(s.tb_frame.f_code)]
    return _line(steps[-1].tb_frame.f_code, steps[-1].tb_lineno) if steps else None


def first_line(body: Callable[..., object]) -> Line:
    """Where a function begins."""
    code = unwrap(body).__code__
    return Line(Path(code.co_filename).name, code.co_firstlineno, "")


def _steps(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_authors(code: CodeType) -> bool:
    file = code.co_filename
    installed = "/site-packages/" in file or "/dist-packages/" in file
    return not installed and not file.startswith(_NOT_THE_AUTHORS)


def _line(code: CodeType, number: int) -> Line:
    text = linecache.getline(code.co_filename, number).strip()
    if len(text) > _MAX_TEXT_CHARS:
        text = f"{text[:_MAX_TEXT_CHARS]}..."
    return Line(Path(code.co_filename).name, number, text)
