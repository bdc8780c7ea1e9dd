"""The proof that a function may run while its weights arrive."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gate_scenes import FAST, GPU, owned, weights, written

from dsfn.functions.errors import MemoryFull
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.memory import Memory
from dsfn.snapshots.prove import streams

pytestmark = pytest.mark.usefixtures("alone")

GIVEN = torch.ones(2, 64)
RIGHT = GIVEN @ weights("a")["a"] @ weights("a", "b")["b"]


class Function:
    """Stands for a user's: `a` and `b` are its weights."""

    a: torch.Tensor
    b: torch.Tensor

    def __init__(self, call: Callable[[Any], torch.Tensor]) -> None:
        self.call = call

    def answers(self) -> bool:
        """Whether it gives the right answer."""
        return torch.equal(self.call(self), RIGHT)


def plain(it: Function) -> torch.Tensor:
    return GIVEN @ it.a @ it.b


def around(it: Function) -> torch.Tensor:
    """Takes the address from where nobody looks."""
    bits = ctypes.string_at(torch._C.TensorBase.data_ptr(it.b), it.b.nbytes)
    return GIVEN @ it.a @ torch.frombuffer(bytearray(bits), dtype=torch.float32).view(64, 64)


def remembering(it: Function) -> torch.Tensor:
    """Keeps what the first call was given."""
    kept = vars(it)
    if "array" not in kept:
        kept["array"] = it.b.numpy()
    return GIVEN @ it.a @ torch.from_numpy(kept["array"].copy())


def leaving(it: Function) -> torch.Tensor:
    sys.exit(0)


@pytest.mark.parametrize(
    ("call", "proved"), [(plain, True), (around, False), (remembering, False), (leaving, False)]
)
def test_a_function_streams_if_it_waits_for_all_that_it_reads(
    tmp_path: Path, call: Callable[[Any], torch.Tensor], proved: bool
) -> None:
    directory = written(tmp_path / "a", weights("a", "b"))
    with owned(FAST, directory) as scene:
        function = Function(call)
        memories: dict[str, Memory] = {"cpu": CpuMemory(), GPU: scene.memory}
        assert streams(directory, Classes(), memories, function, function.answers) is proved


def test_where_there_is_no_room_nothing_is_proved(tmp_path: Path) -> None:
    directory = written(tmp_path / "a", weights("a", "b", size=1024))
    with owned(f"host:{4 << 20}:0", directory) as scene:
        function = Function(plain)
        with pytest.raises(MemoryFull):
            streams(directory, Classes(), {GPU: scene.memory}, function, function.answers)
