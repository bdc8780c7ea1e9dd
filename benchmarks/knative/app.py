"""The least that a function can do: no model, no library."""

from __future__ import annotations

import dsfn


@dsfn.function(park_after=6, remove_after=6)
def greet(name: str) -> str:
    """A greeting."""
    return f"hello {name}"
