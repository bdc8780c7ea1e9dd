"""What the tests of the memory owner share: a running owner, and a snapshot to hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import torch

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.owner.account import Account
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.messages import Start

MIB = 1 << 20
TENANT = "one"


@asynccontextmanager
async def running_owner(
    *devices: str,
    arena_bytes: int = 64 * MIB,
    granule_bytes: int = 4 * MIB,
    reserve_bytes: int = 0,
) -> AsyncIterator[OwnerControl]:
    """An owner of these devices, ended at the end."""
    request = Start(0, arena_bytes, [*devices], [granule_bytes], MIB, reserve_bytes)
    control = await OwnerControl.start(request)
    try:
        yield control
    finally:
        await control.stop()


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


def descriptors(pid: int | str) -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def shared_bytes(pid: int | str) -> int:
    """Shared memory that a process has touched."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssShmem:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no RssShmem")
