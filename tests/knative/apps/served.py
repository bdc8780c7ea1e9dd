"""Functions that pods and a node serve alike."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from pydantic import BaseModel

import dsfn
from dsfn import Event, Image, Text

kept: list[BinaryIO] = []


class Line(BaseModel):
    article: str
    count: int


@dsfn.function
def order(customer: str, lines: list[Line]) -> int:
    """Counts the articles of an order."""
    return sum(line.count for line in lines)


@dsfn.function
def enlarge(picture: Image, by: int = 2) -> Image:
    """A larger picture."""
    found = picture.pil()
    return Image.of(found.resize((found.width * by, found.height * by)))


@dsfn.function
def shout(text: Text) -> Text:
    """Text in capitals."""
    return Text(text.upper())


@dsfn.function
def count_up(to: int) -> Iterator[int]:
    """Numbers as server-sent events."""
    yield from range(to)


@dsfn.function
async def trickle(every_s: float) -> AsyncIterator[int]:
    """Numbers, one after the other, until nobody wants them."""
    number = 0
    while True:
        yield number
        number += 1
        await asyncio.sleep(every_s)


@dsfn.function
def fail(how: str) -> None:
    """Fails in one of several ways."""
    if how == "exit":
        os._exit(3)
    raise ValueError(f"no more {how}")


@dsfn.function
def note(event: Event) -> Event | None:
    """Says what came, unless it is to be silent."""
    data = event.json()
    with Path(data["path"]).open("a") as file:
        file.write(f"{event.id}\n")
    if data.get("silent"):
        return None
    return Event.of(type="noted", source="/notes", id=f"{event.id}-noted", data=data["word"])


@dsfn.function
def spy() -> dict[str, str]:
    """What its code can read of the environments of its own process, and of those before it up to
    the pod's."""
    seen = {"own": str(dict(os.environ))}
    for name, pid in {"fork server": os.getppid(), "pod": _parent(os.getppid())}.items():
        try:
            seen[name] = Path(f"/proc/{pid}/environ").read_text(errors="replace")
        except PermissionError:
            seen[name] = "not for us"
    return seen


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@dsfn.function(concurrency=8)
def rest(seconds: float, number: int = 0) -> int:
    """Takes its time."""
    time.sleep(seconds)
    return number


@dsfn.function
def hoard(folder: str, size_bytes: int) -> int:
    """Keeps a file of this size open that has no name any more."""
    path = Path(folder) / "hoarded"
    file = path.open("wb")
    file.write(bytes(size_bytes))
    file.flush()
    path.unlink()
    kept.append(file)
    return os.fstat(file.fileno()).st_nlink


@dsfn.function
class Weights:
    """A model whose weights come from a snapshot, or else from setup()."""

    def setup(self) -> None:
        self.weights = torch.arange(100_000, dtype=torch.float64)
        self.set_up_by = os.getpid()

    def __call__(self) -> dict[str, float | bool]:
        return {"sum": float(self.weights.sum()), "restored": self.set_up_by != os.getpid()}
