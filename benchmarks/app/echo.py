"""The least that a function can do."""

from __future__ import annotations

import dsfn


@dsfn.function(name="echo", max_replicas=1)
def echo(text: str) -> str:
    """Gives the text back."""
    return text
