"""One run of `coldstart_gpu`: what is measured, what the answers must be, what was found."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.app.models import Answer
from benchmarks.gpu.links import Gpus
from benchmarks.gpu.models import MODELS
from benchmarks.gpu.rows import Measured, Row, aims
from benchmarks.harness import ROOT, Machine, console, save

REFERENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Rounds:
    """How many rounds: of quick states, of slow ones, of peers."""

    quick: int
    slow: int
    peers: int


ROUNDS: Mapping[str, Rounds] = {
    "image": Rounds(50, 5, 10),
    "text": Rounds(50, 5, 10),
    "decoder": Rounds(10, 3, 3),
    "overlapped": Rounds(30, 5, 10),
    "awaited": Rounds(30, 5, 10),
}
TINY_ROUNDS = Rounds(3, 2, 2)


@dataclass(eq=False)
class Run:
    """What is to be measured, and what has been so far."""

    options: argparse.Namespace
    machine: Machine
    gpus: Gpus
    directory: Path
    measured: list[Measured] = field(default_factory=list)
    expected: dict[str, Answer] = field(default_factory=dict)
    began_s: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        """Progress."""
        console.print(f"{time.monotonic() - self.began_s:7.1f} s  {what}", markup=False)

    def add(self, one: Measured) -> None:
        """Keeps a result, on disk as well."""
        self.measured.append(one)
        row = self.rows()[-1]
        found = f"{row.answer.p50:.2f} ms" if row.answer else f"failed: {row.failed}"
        name = ", ".join(filter(None, (one.system, one.model, one.state, one.setup)))
        self.say(f"{name}: {found}")
        self.save()

    def rows(self) -> list[Row]:
        """All results as figures."""
        sizes = {model: MODELS[model].size_bytes() for model in self.options.models}
        return [Row.of(one, sizes[one.model], self.gpus) for one in self.measured]

    def save(self) -> Path:
        """Writes what there is."""
        settings = {
            "gpus": asdict(self.gpus),
            "tiny": self.options.tiny,
            "aims": [asdict(aim) for aim in aims(self.rows(), self.gpus)],
        }
        output = self.options.output
        return save("coldstart_gpu", self.machine, settings, self.rows(), output)

    def rounds(self, model: str) -> Rounds:
        """How many of them."""
        return TINY_ROUNDS if self.options.tiny else ROUNDS[model]

    def attempt(self, what: str, part: Callable[[], None]) -> None:
        """Runs a part; when it fails, the others go on."""
        self.say(what)
        try:
            part()
        except Exception as error:  # noqa: BLE001  whatever it was is reported
            notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
            self.say(f"{what} failed: {type(error).__name__}: {error}{notes}")

    def build_references(self) -> None:
        """Has a process build the models, ask them, and write their weights for the peers."""
        wanted = "weights" if self.options.peers else "answers"
        command = (sys.executable, "-m", "benchmarks.peers.reference", str(self.directory), wanted)
        done = subprocess.run(
            (*command, *self.options.models),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=REFERENCE_S,
        )
        for model in self.options.models:
            path = self.directory / f"{model}.json"
            if path.exists():
                self.expected[model] = json.loads(path.read_bytes())
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])

    def check(self, model: str, answer: Answer) -> None:
        """Raises `RuntimeError` on a wrong answer. Weights that are aligned otherwise lead to other
        kernels and so to another rounding of the sum."""
        expected = self.expected[model]
        right = answer["strongest"] == expected["strongest"]
        if not right or not math.isclose(
            answer["total"], expected["total"], rel_tol=0.05, abs_tol=5.0
        ):
            raise RuntimeError(f"{model} answered {answer} instead of {expected}")
