"""What all systems of `many_models` are given: a GPU of some size, models, calls."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT
from benchmarks.traffic import Arrival, plan

EXPONENT = 1.1
SEED = 4
REFERENCE_S = 300.0
# What a process takes of a GPU beside its weights, and what nobody should take.
CONTEXT_BYTES = 640 << 20
RESERVE_BYTES = 512 << 20
# A stand-in has neither, but no slab takes less of it than this.
GRANULE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """A model: so many square matrices in bfloat16."""

    layers: int
    width: int

    @property
    def size_bytes(self) -> int:
        """Of its weights."""
        return self.layers * self.width**2 * 2


def bearable_gpu_bytes(shape: Shape, host_bytes: int) -> int:
    """How much of a GPU can be used when twice the models that fit it lie in host memory, once
    in their files and once in the arena, with a quarter of it left to all else."""
    fit = host_bytes * 3 // 4 // (4 * shape.size_bytes)
    return RESERVE_BYTES + fit * (shape.size_bytes + CONTEXT_BYTES)


@dataclass(frozen=True, slots=True)
class Scene:
    """`fit` models fit the `gpu_bytes` of `device`, and there are twice as many `functions`.
    `expected` has each function's answer to each question."""

    device: str
    gpu_bytes: int
    shape: Shape
    fit: int
    functions: tuple[str, ...]
    arrivals: Sequence[Arrival]
    seconds: float
    expected: Mapping[str, Sequence[Any]]
    directory: Path

    @classmethod
    def of(
        cls,
        device: str,
        gpu_bytes: int,
        shape: Shape,
        calls: int,
        seconds: float,
        directory: Path,
    ) -> Scene:
        """Builds every model once, for its answers."""
        if device.startswith("cuda"):
            fit = (gpu_bytes - RESERVE_BYTES) // (shape.size_bytes + CONTEXT_BYTES)
        else:
            fit = gpu_bytes // GRANULE_BYTES
        assert fit > 0, "not one model fits"
        functions = tuple(f"chain-{number:02}" for number in range(2 * fit))
        return cls(
            device,
            gpu_bytes,
            shape,
            fit,
            functions,
            plan(functions, calls, seconds, EXPONENT, SEED),
            seconds,
            dict(zip(functions, _answers(shape, len(functions)), strict=True)),
            directory,
        )


def _answers(shape: Shape, count: int) -> list[Sequence[Any]]:
    command = ("-m", "benchmarks.peers.chain_answers", str(shape.layers), str(shape.width))
    done = subprocess.run(
        (sys.executable, *command, str(count)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=REFERENCE_S,
    )
    found: list[Sequence[Any]] = json.loads(done.stdout)
    return found
