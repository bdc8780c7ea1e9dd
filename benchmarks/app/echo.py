"""The least that a function can do: it waits for nothing, so one replica takes many calls."""

from __future__ import annotations

import dsfn


@dsfn.function(concurrency=64, max_replicas=1)
async def echo(text: str) -> str:
    """Gives the text back."""
    return text
