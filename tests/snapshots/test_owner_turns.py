"""Several at once: workers, threads, and a copy that is called off."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import torch
from owner_scenes import (
    FAST,
    MIB,
    SLOW,
    TENANT,
    connected,
    run,
    running_owner,
    snapshot,
    weight,
)

from dsfn.snapshots.classes import Classes
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.restore import restore
from dsfn.snapshots.verify import verify


def test_a_copy_that_is_called_off_ends_soon_and_spoils_nothing(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")
    digest = read_manifest(directory)[1].slabs[0].digest

    async def scenario() -> None:
        async with running_owner(SLOW) as control:
            await control.load(TENANT, directory)
            memory = await connected(control)
            with memory.client.map(digest, 0) as mapped:
                assert sum(mapped.sizes) == 12 * MIB
                memory.client.release(mapped.number)
            account = await control.account()
            assert (account.mappings, account.devices[0].pooled_bytes) == (0, 12 * MIB)
            assert verify(directory, Classes(), {"gpu:0": memory}).tensors == 3

    run(scenario)


def test_workers_restore_one_slab_at_once_and_write_to_their_own_memory(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            memories = [await connected(control) for _ in range(3)]
            first, *others = await asyncio.gather(
                *(
                    asyncio.to_thread(restore, directory, Classes(), {"gpu:0": each})
                    for each in memories
                )
            )
            before = weight(first).clone()
            weight(first).fill_(7)
            assert all(torch.equal(weight(other), before) for other in others)

    run(scenario)


def test_parks_and_restores_from_several_threads_take_turns(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            restored = restore(directory, Classes(), {"gpu:0": await connected(control)})
            before = weight(restored).clone()
            go = threading.Barrier(4)

            def work(park_first: bool) -> None:
                go.wait(10)
                for turn in range(20):
                    if (turn % 2 == 0) == park_first:
                        restored.slabs["gpu:0"].park()
                    else:
                        restored.slabs["gpu:0"].unpark()

            await asyncio.gather(*(asyncio.to_thread(work, n % 2 == 0) for n in range(4)))
            restored.slabs["gpu:0"].unpark()
            assert torch.equal(weight(restored), before)
            assert (await control.account()).mappings == 1

    run(scenario)
