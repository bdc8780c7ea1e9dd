"""Functions that take and give large data."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import dsfn
from dsfn import Event, File


@dsfn.function
def weigh(file: File) -> dict[str, object]:
    """Says what came."""
    digest = sha256(file.data).hexdigest()
    return {"digest": digest, "content_type": file.content_type, "name": file.name}


@dsfn.on(type="film.added")
@dsfn.function
def double(file: File) -> File:
    """Gives twice as much as it takes."""
    return File(file.data * 2, "application/x-double")


@dsfn.on(type="dev.dsfn.function.completed", source="/functions/double")
@dsfn.function
def hear(event: Event) -> None:
    """Writes down what the event before came to, into the folder that its cause names."""
    folder = Path(event.attribute("correlationid") or "")
    digest = sha256(event.data).hexdigest()
    (folder / "heard").write_text(f"{digest} {event.datacontenttype} {event.attribute('dataref')}")
