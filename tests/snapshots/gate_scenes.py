"""What the tests of code that runs while its weights arrive share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from owner_scenes import MIB, TENANT

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.memory import Arrival, Slab
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.memory import OwnedMemory
from dsfn.snapshots.owner.messages import Start
from dsfn.snapshots.owner.space import HostSpace
from dsfn.snapshots.restore import Restored, restore
from dsfn.snapshots.starving import StarvingMemory

GPU = "gpu:0"
FAST, SLOW = f"host:{256 * MIB}:0", f"host:{256 * MIB}:{10 * MIB}"


def written(directory: Path, state: Mapping[str, object]) -> Path:
    """A snapshot of this state, all of it on a GPU."""
    directory.mkdir()
    capture(state, Classes(), directory, place=lambda _: GPU)
    return directory


def starved(directory: Path, state: Mapping[str, object]) -> Restored:
    """The state restored, and none of its bytes there that nobody has waited for."""
    memories = {GPU: StarvingMemory(CpuMemory())}
    return restore(written(directory, state), Classes(), memories, streams=True)


@contextmanager
def owned(device: str, *directories: Path, patience_s: float = 20) -> Iterator[Owned]:
    """A memory owner of `device`, a stand-in, that holds these snapshots."""
    with asyncio.Runner() as loop, HostFile.for_arena(128 * MIB) as arena:
        control = loop.run(
            OwnerControl.start(Start(0, [device], [4 * MIB], MIB, reserve_bytes=0), arena)
        )
        try:
            for directory in directories:
                loop.run(control.load(TENANT, directory))
            client = OwnerClient(loop.run(control.connect(TENANT)), patience_s)
            yield Owned(loop, control, OwnedMemory(client, HostSpace()))
        finally:
            loop.run(control.stop())


class Owned:
    """A running owner and a worker's memory of it."""

    def __init__(self, loop: asyncio.Runner, control: OwnerControl, memory: OwnedMemory) -> None:
        self.loop = loop
        self.control = control
        self.memory = memory

    def restore(self, directory: Path, streams: bool = True) -> Restored:
        """The state of a snapshot; with `streams` its bytes are on their way."""
        return restore(directory, Classes(), {GPU: self.memory}, streams=streams)

    def mappings(self) -> int:
        """How many there are."""
        return self.loop.run(self.control.account()).mappings


def slab_of(restored: Restored) -> Slab:
    """Its only slab."""
    return restored.slabs[GPU]


def arrival_of(restored: Restored) -> Arrival:
    """What is on its way."""
    arrival = slab_of(restored).arrival
    assert arrival is not None
    return arrival


def again(restored: Restored) -> None:
    """Parks it and begins to bring it back."""
    slab_of(restored).park()
    slab_of(restored).begin_unpark()


def weights(*names: str, size: int = 64) -> dict[str, Any]:
    """Square matrices by name, which come in this order."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(size, size, generator=generator) for name in names}
