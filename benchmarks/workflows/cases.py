"""What a system is asked to do, as a word that its process takes on its command line.

Only the standard library is imported: each peer's process reads this in an environment of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Shape = Literal["chain", "fan", "load"]
SHAPES: tuple[Shape, ...] = ("chain", "fan", "load")
STEPS_OF_A_RUN = 10  # of "load": each of its runs is a chain


@dataclass(frozen=True, slots=True)
class Case:
    """`chain`: `size` steps one after the other; `fan`: `size` steps side by side, joined;
    `load`: `size` runs under way all the time, each a chain of `STEPS_OF_A_RUN`."""

    shape: Shape
    size: int

    def __str__(self) -> str:
        return f"{self.shape}:{self.size}"

    @classmethod
    def parse(cls, word: str) -> Case:
        """Reads back what `str` wrote."""
        name, _, size = word.partition(":")
        shape = next(shape for shape in SHAPES if shape == name)
        return cls(shape, int(size))
