"""Slabs in the arena: loaded, found, evicted, and the room for them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from owner_scenes import (
    FAST,
    MIB,
    SLOW,
    TENANT,
    connected,
    run,
    running_owner,
    settled,
    snapshot,
)

from dsfn.functions.errors import (
    Conflict,
    CorruptSnapshot,
    MemoryFull,
    NotFound,
)
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import slab_file
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.messages import Start
from dsfn.snapshots.owner.ranges import Ranges
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.restore import restore


def test_an_arena_that_is_too_small_refuses_and_has_room_after_an_eviction(tmp_path: Path) -> None:
    first, second = snapshot(tmp_path / "a"), snapshot(tmp_path / "b", seed=1)

    async def scenario() -> None:
        async with running_owner(FAST, arena_bytes=16 * MIB) as control:
            await control.load(TENANT, first)
            before = await control.account()
            with pytest.raises(MemoryFull) as refusal:
                await control.load(TENANT, second)
            assert refusal.value.fields["what"] == "arena"
            assert await control.account() == before
            await control.evict(TENANT, read_manifest(first)[1].slabs[0].digest)
            await control.load(TENANT, second)
            memory = await connected(control)
            with pytest.raises(NotFound):
                restore(first, Classes(), {"gpu:0": memory})
            restore(second, Classes(), {"gpu:0": memory})

    run(scenario)


def test_an_arena_larger_than_the_machine_is_refused() -> None:
    async def scenario() -> None:
        with pytest.raises(MemoryFull) as refusal, HostFile.for_arena(1 << 50) as arena:
            await OwnerControl.start(Start(0, []), arena)
        assert refusal.value.fields["what"] == "host"

    run(scenario)


@pytest.mark.parametrize("harm", ["flipped", "truncated", "missing"])
def test_a_damaged_slab_is_refused_at_load_and_takes_no_room(tmp_path: Path, harm: str) -> None:
    directory = snapshot(tmp_path / "a")
    slab = directory / slab_file("gpu:0")
    content = bytearray(slab.read_bytes())
    content[5 * MIB] ^= 1

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            if harm == "flipped":
                slab.write_bytes(content)
            elif harm == "truncated":
                slab.write_bytes(content[:-1])
            else:
                slab.unlink()
            with pytest.raises(CorruptSnapshot):
                await control.load(TENANT, directory)
            account = await control.account()
            assert (account.arena_used_bytes, account.slabs) == (0, 0)

    run(scenario)


def test_loading_a_slab_twice_at_once_loads_it_once(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            loads = (control.load(TENANT, directory) for _ in range(3))
            await asyncio.gather(*loads)
            await control.load(TENANT, directory)
            account = await control.account()
            assert account.slabs == 1
            assert account.arena_used_bytes + account.arena_free_bytes == account.arena_bytes

    run(scenario)


def test_a_slab_is_not_evicted_while_it_is_copied(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")
    digest = read_manifest(directory)[1].slabs[0].digest

    async def scenario() -> None:
        async with running_owner(SLOW) as control:
            await control.load(TENANT, directory)
            memory = await connected(control)
            restoring = asyncio.to_thread(restore, directory, Classes(), {"gpu:0": memory})
            restoring_task = asyncio.create_task(restoring)
            await settled(control, lambda account: account.mappings == 1)
            with pytest.raises(Conflict):
                await control.evict(TENANT, digest)
            restored = await restoring_task
            await control.evict(TENANT, digest)
            restored.slabs["gpu:0"].park()
            with pytest.raises(NotFound):
                restored.slabs["gpu:0"].unpark()

    run(scenario)


def test_a_tenant_finds_its_own_slabs_alone(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load("two", directory)
            memory = await connected(control)
            with pytest.raises(NotFound):
                restore(directory, Classes(), {"gpu:0": memory})

    run(scenario)


@given(st.lists(st.tuples(st.sampled_from(["take", "give", "shrink"]), st.integers(0, 40))))
def test_ranges_never_overlap_and_every_byte_is_accounted_for(
    steps: list[tuple[str, int]],
) -> None:
    ranges, taken = Ranges(100), dict[int, int]()
    for step, number in steps:
        if step == "take":
            fits = 0 < number <= ranges.largest_free_bytes
            start = ranges.take(number)
            assert (start is not None) == fits
            if start is not None:
                assert all(start + number <= s or s + n <= start for s, n in taken.items())
                assert 0 <= start <= 100 - number
                taken[start] = number
        elif taken:
            start = sorted(taken)[number % len(taken)]
            if step == "give":
                ranges.give(start)
                del taken[start]
            else:
                taken[start] = min(taken[start], number + 1)
                ranges.shrink(start, number + 1)
        assert {start: ranges.taken_bytes(start) for start in taken} == taken
        assert ranges.used_bytes == sum(taken.values())
        assert ranges.used_bytes + ranges.free_bytes == 100
    for start in taken:
        ranges.give(start)
    assert ranges.largest_free_bytes == 100
