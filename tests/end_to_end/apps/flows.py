"""Workflows that are run, watched, called off and tried again."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import dsfn
from dsfn import Image, Text


@dsfn.function
def length(text: str) -> int:
    """Counts characters."""
    sys.stdout.write(f"measuring {text}\n")
    return len(text)


@dsfn.function
def total(numbers: list[int]) -> int:
    """Adds numbers up."""
    return sum(numbers)


@dsfn.function
def loud(text: Text) -> Text:
    """The same in capitals."""
    return Text(text.upper())


@dsfn.function
def square(side: int) -> Image:
    """A black picture."""
    from PIL import Image as Pictures

    return Image.of(Pictures.new("RGB", (side, side)))


@dsfn.function
def square_of(number: int) -> int:
    """Times itself."""
    return number * number


@dsfn.function
def numbers_to(end: int) -> Iterator[int]:
    """Counts."""
    yield from range(end)


@dsfn.function
async def spoken(text: Text) -> AsyncIterator[Text]:
    """Word by word."""
    for word in text.split():
        yield Text(f"{word}\n")


@dsfn.function
def nap(folder: str, name: str, seconds: float) -> str:
    """Sleeps, and leaves a note before and after."""
    Path(folder, f"{name}.begun").touch()
    time.sleep(seconds)
    Path(folder, f"{name}.done").touch()
    return folder


@dsfn.function
def fragile(folder: str, number: int) -> int:
    """Breaks at 13 until somebody has mended it."""
    with Path(folder, "calls").open("a") as calls:
        calls.write(f"{number}\n")
    if number == 13 and not Path(folder, "mended").exists():
        raise ValueError("13 is unlucky")
    return number * 2


@dsfn.workflow
def count_letters(lines: list[str]) -> int:
    """How many letters all lines have."""
    return total(dsfn.map(length, lines, parallel=4))


@dsfn.workflow
def cry(text: Text) -> Text:
    """Loud, and louder."""
    return loud(loud(text))


@dsfn.workflow
def draw(side: int) -> Image:
    """A picture that is too large for a row."""
    return square(side)


@dsfn.workflow
def streamed(end: int, text: Text) -> dict[str, object]:
    """What streams give is there as a whole."""
    squares = dsfn.map(square_of, numbers_to(3))
    # A step's stream is one value to the next; a type checker sees only the plain functions.
    sum_of = total(numbers_to(end))  # type: ignore[arg-type]
    said = loud(spoken(text))  # type: ignore[arg-type]
    return {"sum": sum_of, "squares": squares, "text": said}


@dsfn.workflow
def siesta(folder: str, seconds: float) -> str:
    """Two naps, one after the other."""
    return nap(nap(folder, "first", seconds), "second", seconds)


@dsfn.workflow
def doubled(folder: str, numbers: list[int]) -> int:
    """Doubles and adds up."""
    return total(dsfn.map(lambda number: fragile(folder, number), numbers, parallel=1))
