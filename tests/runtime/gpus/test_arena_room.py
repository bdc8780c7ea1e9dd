"""What the node knows of the arena, beside an owner that has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import torch

from dsfn.functions.errors import CorruptSnapshot, MemoryFull
from dsfn.runtime.gpus.arena_room import ArenaRoom
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import CPU, SlabEntry, slab_file
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.messages import Start
from dsfn.snapshots.reading import read_manifest

MIB = 1 << 20
TENANT = "one"
Scene = Callable[[OwnerControl, ArenaRoom], Coroutine[None, None, None]]


def snapshot(directory: Path, seed: int, devices: int = 1) -> Path:
    """10 MiB of random weights for each of so many GPUs."""
    directory.mkdir()
    generator = torch.Generator().manual_seed(seed)
    state = {
        f"gpu:{number}": torch.randint(
            -128, 127, (10 * MIB,), dtype=torch.int8, generator=generator
        )
        for number in range(devices)
    }
    places = {tensor.data_ptr(): name for name, tensor in state.items()}
    capture(state, Classes(), directory, place=lambda tensor: places[tensor.data_ptr()])
    return directory


def slabs_of(directory: Path) -> list[SlabEntry]:
    return [slab for slab in read_manifest(directory)[1].slabs if slab.device != CPU]


async def load(
    owner: OwnerControl, room: ArenaRoom, directory: Path, beside: frozenset[str] | None = None
) -> None:
    await room.load(owner, TENANT, directory, slabs_of(directory), 1, beside)


def played(scene: Scene, arena_bytes: int = 25 * MIB) -> None:
    async def play() -> None:
        with HostFile.for_arena(arena_bytes) as arena:
            owner = await OwnerControl.start(Start(0, []), arena)
        room = ArenaRoom()
        try:
            await scene(owner, room)
        finally:
            await room.close()
            await owner.stop()

    asyncio.run(play())


def test_what_nobody_waits_for_any_more_is_known_and_leaves_for_others(tmp_path: Path) -> None:
    given_up, first, second = (snapshot(tmp_path / str(seed), seed) for seed in range(3))

    async def scene(owner: OwnerControl, room: ArenaRoom) -> None:
        waiting = asyncio.create_task(load(owner, room, given_up))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await load(owner, room, first)
        await load(owner, room, second)
        held = [all(room.holds(s.digest) for s in slabs_of(d)) for d in (given_up, first, second)]
        assert held == [False, True, True]
        assert (await owner.account()).slabs == 2

    played(scene)


def test_the_first_slab_of_a_snapshot_whose_second_is_damaged_leaves_for_others(
    tmp_path: Path,
) -> None:
    damaged, good = snapshot(tmp_path / "a", 1, devices=2), snapshot(tmp_path / "b", 2, devices=2)
    path = damaged / slab_file("gpu:1")
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    async def scene(owner: OwnerControl, room: ArenaRoom) -> None:
        with pytest.raises(CorruptSnapshot):
            await load(owner, room, damaged)
        assert (await owner.account()).slabs == 1
        await load(owner, room, good)
        assert (await owner.account()).slabs == 2

    played(scene)


def test_what_is_brought_ahead_has_nothing_leave_that_was_named_with_it_or_is_pinned(
    tmp_path: Path,
) -> None:
    pinned, named, last = (snapshot(tmp_path / str(seed), seed) for seed in range(3))

    async def scene(owner: OwnerControl, room: ArenaRoom) -> None:
        room.pinned = lambda: frozenset({pinned.name})
        beside = frozenset({named.name, last.name})
        for directory in (pinned, named):
            await load(owner, room, directory, beside)
        with pytest.raises(MemoryFull):
            await load(owner, room, last, beside)
        assert all(room.holds(slab.digest) for d in (pinned, named) for slab in slabs_of(d))
        await load(owner, room, last)  # a call waits for it
        assert all(room.holds(slab.digest) for d in (pinned, last) for slab in slabs_of(d))

    played(scene)
