"""The model that every server serves: the library's MiniLM, as a plain callable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dsfn.functions.library.embed import Embed

Model = Callable[[list[str]], list[list[float]]]


def load_model() -> Model:
    """Loads it and runs it once."""
    function: Any = Embed
    function(["a text"])
    model: Model = function
    return model
