"""What a cold start is compared with: a plain script that loads a model and answers once.

    python -m benchmarks.fresh embed "How do I reset my password?"
    python -m benchmarks.fresh classify FILE
    python -m benchmarks.fresh detect-speech FILE

It runs the library's own code as ordinary Python, without a node, and prints the answer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import dsfn


def answer(function: str, argument: str) -> object:
    """Sets the function up and calls it."""
    if function == "embed":
        from dsfn.functions.library.embed import Embed

        return Embed(argument)
    if function == "classify":
        from dsfn.functions.library.classify import Classify

        return Classify(dsfn.Image(Path(argument).read_bytes()))
    from dsfn.functions.library.speech import DetectSpeech

    return DetectSpeech(dsfn.Audio(Path(argument).read_bytes()))


if __name__ == "__main__":
    from pydantic_core import to_json

    sys.stdout.write(to_json(answer(*sys.argv[1:])).decode() + "\n")
