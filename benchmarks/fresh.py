"""What a cold start is compared with: a plain script that loads a model and answers once.

    python -m benchmarks.fresh embed "How do I reset my password?"
    python -m benchmarks.fresh classify FILE
    python -m benchmarks.fresh detect-speech FILE

It runs the library's own code as ordinary Python, without a node, and prints the answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import dsfn

# Module and name of each function, and how what it takes is made of the command's argument.
FUNCTIONS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "embed": ("embed", "Embed", lambda text: [text]),
    "classify": ("classify", "Classify", lambda path: dsfn.Image(Path(path).read_bytes())),
    "detect-speech": ("speech", "DetectSpeech", lambda path: dsfn.Audio(Path(path).read_bytes())),
}


def answer(function: str, argument: str) -> object:
    """Loads a function and calls it."""
    module, name, prepare = FUNCTIONS[function]
    called: Any = getattr(import_module(f"dsfn.functions.library.{module}"), name)
    return called(prepare(argument))


if __name__ == "__main__":
    from pydantic_core import to_json

    sys.stdout.write(to_json(answer(*sys.argv[1:])).decode() + "\n")
