"""What the tests of the memory owner share: a running owner, and a snapshot to hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import torch

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.owner.account import Account, CodingAccount
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.memory import OwnedMemory
from dsfn.snapshots.owner.messages import Start
from dsfn.snapshots.owner.space import HostSpace
from dsfn.snapshots.restore import Restored

MIB = 1 << 20
TENANT = "one"
FAST = f"host:{64 * MIB}:0"
SLOW = f"host:{64 * MIB}:{5 * MIB}"  # its bus takes two seconds for ten MiB


@asynccontextmanager
async def running_owner(
    *devices: str,
    arena_bytes: int = 64 * MIB,
    granule_bytes: int = 4 * MIB,
    reserve_bytes: int = 0,
    piece_bytes: int = MIB,
    compress: bool = False,
) -> AsyncIterator[OwnerControl]:
    """An owner of these devices, ended at the end."""
    request = Start(0, [*devices], [granule_bytes], piece_bytes, reserve_bytes, compress)
    with HostFile.for_arena(arena_bytes) as arena:
        control = await OwnerControl.start(request, arena)
    try:
        yield control
    finally:
        await control.stop()


async def connected(
    control: OwnerControl, tenant: str = TENANT, device: int = 0, patience_s: float = 20
) -> OwnedMemory:
    """A worker's memory, in this process."""
    client = OwnerClient(await control.connect(tenant, [device]), patience_s)
    return OwnedMemory(client, HostSpace(), device)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    """Runs what a test is made of."""
    asyncio.run(scenario())


def weight(restored: Restored) -> torch.Tensor:
    """The large tensor of a `snapshot`."""
    tensor = restored.state["weight"]
    assert isinstance(tensor, torch.Tensor)
    return tensor


def snapshot(directory: Path, size_bytes: int = 10 * MIB, seed: int = 0) -> Path:
    """A snapshot of random weights for one GPU, of this size and a bit."""
    directory.mkdir()
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(-128, 127, (size_bytes,), dtype=torch.int8, generator=generator)
    state = {"weight": bits, "bias": torch.arange(100), "empty": bits[:0]}
    capture(state, Classes(), directory, place=lambda _: "gpu:0")
    return directory


async def settled(control: OwnerControl, holds: Callable[[Account], bool]) -> Account:
    """The first account that `holds` is true of. Fails after ten seconds."""
    end_s = time.monotonic() + 10
    while not holds(account := await control.account()):
        assert time.monotonic() < end_s, account
        await asyncio.sleep(0.01)
    return account


async def judged(control: OwnerControl, digest: str) -> CodingAccount:
    """What is with a slab when it has been tried. Fails after some seconds."""
    end_s = time.monotonic() + 20
    while (slab := await control.coding(TENANT, digest)).reason == "it was not coded so far":
        assert time.monotonic() < end_s
        await asyncio.sleep(0.02)
    return slab


def descriptors(pid: int | str) -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def shared_bytes(pid: int | str) -> int:
    """Shared memory that a process has touched."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssShmem:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no RssShmem")
