"""Functions that are called rightly and wrongly."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

from pydantic import BaseModel

import dsfn
from dsfn import Event, Image, Json, Text

# Under this, four calls are at work at once or none ends.
_ALL_FOUR = threading.Barrier(4)


class Line(BaseModel):
    article: str
    count: int


@dsfn.function
def echo(text: str) -> str:
    """Gives back what it gets."""
    return text


@dsfn.function
def order(customer: str, lines: list[Line], discount: float = 0.0) -> int:
    """Counts the articles of an order."""
    return sum(line.count for line in lines)


@dsfn.function
def measure(picture: Image) -> list[int]:
    """The width and height of a picture."""
    return list(picture.pil().size)


@dsfn.function
def overlay(below: Image, above: Image, note: str = "") -> str:
    """Says what it would lay over what."""
    return f"{above.pil().size} over {below.pil().size} {note}".strip()


@dsfn.function
def anything(value: Json) -> Json:
    """Any JSON value."""
    return value


@dsfn.function
def shout(text: Text) -> Text:
    """Text in capitals."""
    return Text(text.upper())


@dsfn.function(max_replicas=2)
def count_runs(path: str, seconds: float = 0.0) -> int:
    """Notes each run in a file and says which one this is."""
    with Path(path).open("a") as file:
        file.write("x")
    time.sleep(seconds)
    return Path(path).stat().st_size


@dsfn.function
def rest(seconds: float, path: str = "") -> int:
    """Takes its time; says by a file that it has begun. Gives its process's number."""
    if path:
        Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)
    return os.getpid()


@dsfn.function(max_replicas=1)
def note_interruption(path: str) -> None:
    """Runs until it is stopped, and notes that it was."""
    file = Path(path)
    file.write_text("begun")
    try:
        while True:
            time.sleep(0.01)
    finally:
        file.write_text("stopped")


@dsfn.function(concurrency=4, max_replicas=1)
def note_interruption_in_thread(path: str) -> None:
    """The same beside other calls."""
    file = Path(path)
    file.write_text("begun")
    try:
        while True:
            time.sleep(0.01)
    finally:
        file.write_text("stopped")


@dsfn.function(max_replicas=1)
async def note_interruption_in_task(path: str) -> None:
    """The same on an event loop."""
    file = Path(path)
    file.write_text("begun")
    try:
        await asyncio.sleep(3600)
    finally:
        file.write_text("stopped")


@dsfn.function(concurrency=4, max_replicas=1)
def meet_in_threads() -> int:
    """Ends when four calls of one process are at work at once."""
    _ALL_FOUR.wait(60)
    return os.getpid()


@dsfn.function(concurrency=4, max_replicas=1)
class MeetInTasks:
    """The same on one thread."""

    def __init__(self) -> None:
        self.waiting = 0

    async def __call__(self) -> int:
        self.waiting += 1
        while self.waiting < 4:
            await asyncio.sleep(0.01)
        return os.getpid()


@dsfn.function
def greet(event: Event) -> dict[str, str]:
    """Takes an event, gives JSON."""
    return {"hello": str(event.json()["name"]), "source": event.source}


@dsfn.function
def speak(words: list[str]) -> None:
    """Prints."""
    for word in words:
        print(word)  # noqa: T201  what this is for
