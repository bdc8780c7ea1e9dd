"""Functions that write down the events that they get."""

from __future__ import annotations

import json
import os
from pathlib import Path

import dsfn
from dsfn import Event


def _append(event: Event, by: str) -> None:
    line: dict[str, object] = {"by": by, "type": event.type, "source": event.source, "id": event.id}
    line["data"] = event.json()
    line["extensions"] = dict(event.extensions)
    with Path(_folder(event), "events.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def _folder(event: Event) -> str:
    return str(event.json()["folder"])


@dsfn.on(type="order.placed")
@dsfn.function
def on_exact(event: Event) -> dict[str, str]:
    """Takes one type, and says something about it."""
    _append(event, "on-exact")
    return {"folder": _folder(event), "said": "packed"}


@dsfn.on(type="dev.dsfn.function.completed", source="/functions/on-exact")
@dsfn.function
def on_result(event: Event) -> None:
    """Takes what `on_exact` says."""
    _append(event, "on-result")


@dsfn.on(prefix={"type": "photo."}, suffix={"source": "/camera"})
@dsfn.function
def on_affixes(event: Event) -> None:
    """Takes a family of types from a family of sources."""
    _append(event, "on-affixes")


@dsfn.function
def on_request(event: Event) -> None:
    """Takes what it is subscribed to."""
    _append(event, "on-request")


@dsfn.on(type="parcel.lost")
@dsfn.function
def on_loss(event: Event) -> None:
    """Fails."""
    raise LookupError("no such parcel")


@dsfn.on(type="dev.dsfn.function.failed", source="/functions/on-loss")
@dsfn.function
def on_failure(event: Event) -> None:
    """Would take the failure, which carries no folder."""


@dsfn.on(type="tally")
@dsfn.function
def tally(event: Event) -> None:
    """Makes one file for each event, however often it comes; notes each time."""
    folder = _folder(event)
    with Path(folder, "runs").open("a") as runs:
        runs.write(event.id + "\n")
    try:
        os.close(os.open(Path(folder, f"effect-{event.id}"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
