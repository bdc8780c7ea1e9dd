"""Slabs kept in memory of devices that nobody needs, on stand-ins for GPUs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from owner_scenes import (
    FAST,
    MIB,
    SLOW,
    TENANT,
    connected,
    descriptors,
    run,
    running_owner,
    settled,
    shared_bytes,
    snapshot,
    weight,
)

from dsfn.functions.errors import NotFound
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.owner.account import Account
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.restore import Restored, restore

SMALL = f"host:{24 * MIB}:0"  # of which a quarter is left to others: room for one slab
SLAB_BYTES = 12 * MIB  # in granules


async def restored(
    control: OwnerControl, directory: Path, device: int = 0, tenant: str = TENANT
) -> Restored:
    memory = await connected(control, tenant, device)
    return await asyncio.to_thread(restore, directory, Classes(), {"gpu:0": memory})


def digest(directory: Path) -> str:
    (slab,) = read_manifest(directory)[1].slabs
    return slab.digest


def neighbours(account: Account) -> list[int]:
    return [device.neighbour_bytes // SLAB_BYTES for device in account.devices]


async def kept(control: OwnerControl, count: int = 1, device: int = 1) -> None:
    """Waits until a device keeps so many slabs, whole."""
    await settled(control, lambda account: neighbours(account)[device] == count)
    for _ in range(500):
        if not any(slab.readers for slab in await control.slabs()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never filled")


def test_a_parked_slab_comes_back_from_its_neighbour_and_as_it_was_captured(
    tmp_path: Path,
) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST, FAST) as control:
            await control.load(TENANT, directory)
            found = await restored(control, directory)
            before = weight(found).clone()
            weight(found).fill_(7)  # what a worker writes is nobody else's
            found.slabs["gpu:0"].park()
            await kept(control)
            links = (await control.account()).links
            found.slabs["gpu:0"].unpark()
            assert torch.equal(weight(found), before)
            after = (await control.account()).links
            assert after[0].kept_bytes - links[0].kept_bytes > 10 * MIB
            assert after[0].own_bytes == links[0].own_bytes
            there = await restored(control, directory, device=1)
            assert torch.equal(weight(there), before)

    run(scenario)


def test_a_lone_device_keeps_nothing(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            found = await restored(control, directory)
            found.slabs["gpu:0"].park()
            account = await control.account()
            assert account.devices[0].free_bytes == 64 * MIB - SLAB_BYTES
            assert account.devices[0].pooled_bytes == SLAB_BYTES

    run(scenario)


def test_guests_leave_when_the_device_is_needed_and_idle_memory_of_tenants_stays(
    tmp_path: Path,
) -> None:
    directory = snapshot(tmp_path / "a")
    other = snapshot(tmp_path / "b", 37 * MIB, seed=1)

    async def scenario() -> None:
        async with running_owner(FAST, FAST, arena_bytes=96 * MIB) as control:
            await control.load(TENANT, directory)
            await control.load("two", other)
            (await restored(control, directory, device=1)).slabs["gpu:0"].park()
            (await restored(control, directory)).slabs["gpu:0"].park()
            await kept(control, device=0)
            found = await restored(control, other, tenant="two")
            account = await control.account()
            assert neighbours(account) == [0, 0]
            assert account.devices[0].pooled_bytes == SLAB_BYTES
            assert weight(found).numel() == 37 * MIB

    run(scenario)


def test_a_slab_that_is_used_more_takes_the_place_of_one_that_is_used_less(
    tmp_path: Path,
) -> None:
    rare, often = snapshot(tmp_path / "a"), snapshot(tmp_path / "b", seed=1)

    async def scenario() -> None:
        async with running_owner(FAST, SMALL) as control:
            await control.load(TENANT, rare)
            await control.load(TENANT, often)
            (await restored(control, rare)).slabs["gpu:0"].park()
            await kept(control)
            slab = (await restored(control, often)).slabs["gpu:0"]
            for turn in range(2):
                slab.park()
                kept_bytes = (await control.account()).links[0].kept_bytes
                await kept(control)
                slab.unpark()
                came_bytes = (await control.account()).links[0].kept_bytes - kept_bytes
                assert (came_bytes > 0) == (turn == 1)  # used twice by then, the other once

    run(scenario)


def test_a_restore_waits_for_a_guest_that_is_still_coming_and_has_to_leave(
    tmp_path: Path,
) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST, f"host:{24 * MIB}:{4 * MIB}") as control:
            await control.load(TENANT, directory)
            (await restored(control, directory)).slabs["gpu:0"].park()
            await settled(control, lambda account: neighbours(account) == [0, 1])
            found = await restored(control, directory, device=1)
            account = await control.account()
            assert neighbours(account) == [0, 0]
            assert account.devices[1].resident_bytes == SLAB_BYTES
            assert weight(found).numel() == 10 * MIB

    run(scenario)


def test_an_eviction_from_the_arena_takes_the_neighbours_copy_along(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        for second in (FAST, SLOW):  # kept, and on its way
            async with running_owner(FAST, second) as control:
                await control.load(TENANT, directory)
                found = await restored(control, directory)
                found.slabs["gpu:0"].park()
                await settled(control, lambda account: neighbours(account) == [0, 1])
                await control.evict(TENANT, digest(directory))
                account = await control.account()
                assert (neighbours(account), account.arena_used_bytes) == ([0, 0], 0)
                with pytest.raises(NotFound):
                    found.slabs["gpu:0"].unpark()

    run(scenario)


def test_a_device_whose_memory_others_take_gives_up_its_guests(tmp_path: Path) -> None:
    directory, large = snapshot(tmp_path / "a"), snapshot(tmp_path / "b", 30 * MIB, seed=1)

    async def scenario() -> None:
        async with running_owner(FAST, FAST, arena_bytes=96 * MIB) as control:
            await control.load(TENANT, directory)
            await control.load("two", large)
            (await restored(control, directory)).slabs["gpu:0"].park()
            await kept(control)
            there = await restored(control, large, device=1, tenant="two")
            # Nobody asked for the guest's memory, but less than a quarter is left to others.
            await settled(control, lambda account: neighbours(account) == [0, 0])
            assert weight(there).numel() == 30 * MIB

    run(scenario)


def test_kept_slabs_leak_neither_memory_nor_descriptors(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def rounds(control: OwnerControl, found: Restored, count: int) -> tuple[int, int]:
        for _ in range(count):
            found.slabs["gpu:0"].unpark()
            found.slabs["gpu:0"].park()
            await kept(control)
            await control.trim()
        await settled(control, lambda account: neighbours(account) == [0, 0])
        return descriptors(control.pid), shared_bytes(control.pid)

    async def scenario() -> None:
        async with running_owner(FAST, FAST) as control:
            await control.load(TENANT, directory)
            found = await restored(control, directory)
            before = await rounds(control, found, 2)
            assert await rounds(control, found, 10) == before

    run(scenario)
