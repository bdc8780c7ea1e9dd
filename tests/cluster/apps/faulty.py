"""What is called while parts of the platform fail."""

from __future__ import annotations

import time

import dsfn


@dsfn.function(min_replicas=4, max_replicas=4, memory="256MiB")
def rest(seconds: float, number: int = 0) -> int:
    """What it waits for is no processor: how many calls there are shows how many pods."""
    time.sleep(seconds)
    return number


@dsfn.on(type="dev.dsfn.test.said")
@dsfn.function(min_replicas=1, max_replicas=1, memory="256MiB")
def hear(event: dsfn.Event) -> None:
    """An event has come."""
