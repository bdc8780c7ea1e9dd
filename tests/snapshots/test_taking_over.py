"""What an owner finds in an arena that another one had before it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
import torch
from owner_scenes import FAST, MIB, SLOW, TENANT, connected, judged, run, snapshot

from dsfn.functions.errors import NotFound
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.inventory import Inventory, Record, packed
from dsfn.snapshots.owner.messages import Start
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.restore import restore
from dsfn.snapshots.verify import verify

START = Start(0, [FAST], [4 * MIB], MIB, 0)


async def killed(control: OwnerControl) -> None:
    os.kill(control.pid, signal.SIGKILL)
    await control.stop()
    assert control.was_killed


def slab_of(directory: Path) -> tuple[str, int]:
    (slab,) = read_manifest(directory)[1].slabs
    return slab.digest, slab.size_bytes


def test_slabs_outlast_an_owner_that_is_killed(tmp_path: Path) -> None:
    first, second = snapshot(tmp_path / "a"), snapshot(tmp_path / "b", seed=1)

    async def scenario() -> None:
        with HostFile.for_arena(40 * MIB) as arena:
            owner, heir = [await OwnerControl.start(START, arena) for _ in range(2)]
            for directory in (first, second):
                await owner.load(TENANT, directory)
            await owner.evict(TENANT, slab_of(first)[0])
            before = await owner.account()
            await killed(owner)
            try:
                held = await heir.take_over(TENANT, is_sound=True)
                assert held == dict([slab_of(second)])
                assert (await heir.account()).arena_used_bytes == before.arena_used_bytes
                memory = await connected(heir)
                await asyncio.to_thread(verify, second, Classes(), {"gpu:0": memory})
                await heir.load(TENANT, first)  # beside it, not over it
                for directory in (first, second):
                    memory = await connected(heir)
                    await asyncio.to_thread(verify, directory, Classes(), {"gpu:0": memory})
            finally:
                await heir.stop()

    run(scenario)


def test_a_coded_slab_outlasts_it_in_that_form(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    directory.mkdir()
    numbers = torch.randn(3 * MIB // 2, generator=torch.Generator().manual_seed(0))
    state = {"weight": numbers.bfloat16()}
    capture(state, Classes(), directory, place=lambda _: "gpu:0")
    start = Start(0, [SLOW], [4 * MIB], MIB, 0, compress=True)

    async def scenario() -> None:
        with HostFile.for_arena(40 * MIB) as arena:
            owner = await OwnerControl.start(start, arena)
            await owner.load(TENANT, directory)
            before = await judged(owner, slab_of(directory)[0])
            assert before.coded
            await killed(owner)
            heir = await OwnerControl.start(start, arena)
            try:
                await heir.take_over(TENANT, is_sound=True)
                assert await heir.coding(TENANT, slab_of(directory)[0]) == before
                memory = await connected(heir)
                await asyncio.to_thread(verify, directory, Classes(), {"gpu:0": memory})
            finally:
                await heir.stop()

    run(scenario)


@pytest.mark.parametrize(("tenant", "is_sound"), [(TENANT, False), ("another", True)])
def test_nobody_takes_over_what_is_not_sound_or_another_tenants(
    tmp_path: Path, tenant: str, is_sound: bool
) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        with HostFile.for_arena(40 * MIB) as arena:
            owner = await OwnerControl.start(START, arena)
            await owner.load(TENANT, directory)
            await killed(owner)
            for sound in (is_sound, True):  # it is forgotten for good
                heir = await OwnerControl.start(START, arena)
                assert await heir.take_over(tenant, sound) == {}
                assert (await heir.account()).arena_used_bytes == 0
                with pytest.raises(NotFound):
                    restore(directory, Classes(), {"gpu:0": await connected(heir)})
                await killed(heir)

    run(scenario)


def record(number: int) -> bytes:
    return packed(Record(("one", str(number)), 1, 0, number, 4096, 0, None, None, b"head"))


def test_an_inventory_that_was_half_written_is_the_one_before() -> None:
    memory = bytearray(1 << 12)
    view = memoryview(memory)
    Inventory(view).write([record(1)])
    second = Inventory(view)
    assert [each.offset for each, _ in second.read()] == [1]
    before = bytes(memory)
    second.write([record(1), record(2)])
    assert [each.offset for each, _ in Inventory(view).read()] == [1, 2]
    changed = [at for at in range(len(memory)) if memory[at] != before[at]]
    for at in changed[::7]:  # as if it had been killed here
        half = memoryview(bytearray(memory[:at] + before[at:]))
        assert [each.offset for each, _ in Inventory(half).read()] == [1]


def test_an_inventory_that_does_not_fit_is_empty() -> None:
    view = memoryview(bytearray(1 << 10))
    inventory = Inventory(view)
    inventory.write([record(1)])
    inventory.write([record(number) for number in range(20)])
    assert Inventory(view).read() == []
