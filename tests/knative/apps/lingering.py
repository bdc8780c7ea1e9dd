"""Functions that go on until they are let go."""

from __future__ import annotations

import time
from pathlib import Path

import dsfn
from dsfn import Event


def stay(place: Path, name: str) -> None:
    """Until there is a file `over`; a file with the name tells that it has begun."""
    (place / name).touch()
    while not (place / "over").exists():
        time.sleep(0.02)


@dsfn.function(concurrency=4)
def linger(place: str, name: str) -> str:
    """Gives the name back."""
    stay(Path(place), name)
    return name


@dsfn.on(type="door.knocked")
@dsfn.function
def attend(event: Event) -> None:
    """Takes its time with an event."""
    stay(Path(event.json()["place"]), "event")


@dsfn.workflow
def lingering(place: str, name: str) -> str:
    """A workflow of one step."""
    return linger(place, name)
