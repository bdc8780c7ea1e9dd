"""Functions that stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import dsfn
from dsfn import File, Text


@dsfn.function
def count_up(to: int) -> Iterator[int]:
    """Numbers as server-sent events."""
    yield from range(to)


@dsfn.function
def lines(text: str) -> Iterator[Text]:
    """Texts, some of more than one line."""
    for piece in text.split("|"):
        yield Text(piece)


@dsfn.function
def blocks(count: int, size: int) -> Iterator[File]:
    """Raw chunks."""
    for number in range(count):
        yield File(bytes([number % 256]) * size)


@dsfn.function
def break_off(after: int) -> Iterator[int]:
    """Fails in the middle, or before the first item."""
    yield from range(after)
    raise ValueError("nothing more")


@dsfn.function
def break_off_blocks() -> Iterator[File]:
    """Fails in the middle of raw chunks."""
    yield File(b"x" * 1000)
    raise ValueError("nothing more")


@dsfn.function
def end_in_the_middle() -> Iterator[int]:
    """Its process ends in the middle."""
    import os

    yield 1
    time.sleep(0.2)
    os._exit(5)


@dsfn.function(max_replicas=1)
def go_on(path: str) -> Iterator[int]:
    """Streams until it is stopped, and notes that it was."""
    try:
        number = 0
        while True:
            yield number
            number += 1
            time.sleep(0.01)
    finally:
        Path(path).write_text("stopped")


@dsfn.function(max_replicas=1)
async def go_on_async(path: str) -> AsyncIterator[int]:
    """The same on an event loop."""
    try:
        number = 0
        while True:
            yield number
            number += 1
            await asyncio.sleep(0.01)
    finally:
        Path(path).write_text("stopped")
