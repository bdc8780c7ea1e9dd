"""A function that takes some events of a type and no others."""

from __future__ import annotations

import sys

import dsfn


@dsfn.on(type="photo.taken", prefix={"source": "/eu/"}, suffix={"subject": ".jpg"})
@dsfn.on(type="word.heard", suffix={"id": "-heard"})
@dsfn.on(type="word.passed")
@dsfn.function
def note(event: dsfn.Event) -> None:
    """An event has come."""
    sys.stdout.write(f"{event.type} {event.id}\n")
