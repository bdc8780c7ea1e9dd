"""What is in a device's memory, compared with what was captured."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from owner_scenes import FAST, MIB, TENANT, connected, run, running_owner, settled, snapshot, weight

from dsfn.functions.errors import SnapshotError
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.memory import OwnedSlab
from dsfn.snapshots.owner.messages import Check, Map, encode
from dsfn.snapshots.owner.progress import ProgressReader, State
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.restore import Restored, restore


async def restored(control: OwnerControl, directory: Path) -> tuple[Restored, OwnedSlab]:
    found = restore(directory, Classes(), {"gpu:0": await connected(control)})
    slab = found.slabs["gpu:0"]
    assert isinstance(slab, OwnedSlab)
    return found, slab


def test_one_byte_that_differs_is_noticed_and_gone_after_the_next_restore(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            found, slab = await restored(control, directory)
            assert slab.is_intact()
            weight(found)[5 * MIB] ^= 1
            assert not slab.is_intact()
            slab.park()
            with pytest.raises(SnapshotError, match="parked"):
                slab.is_intact()
            slab.unpark()
            assert slab.is_intact()

    run(scenario)


def test_a_slab_that_the_arena_has_no_more_is_still_known(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            _, slab = await restored(control, directory)
            await control.evict(TENANT, read_manifest(directory)[1].slabs[0].digest)
            assert slab.is_intact()

    run(scenario)


def wait_for(page: ProgressReader) -> None:
    while page.state is State.RUNNING:
        time.sleep(0.001)
    page.close()


def test_a_worker_that_goes_while_its_memory_is_checked_leaves_nothing(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a", 40 * MIB)
    digest = read_manifest(directory)[1].slabs[0].digest

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            for last_words in ([Check(1)], [Check(1), Check(1)]):
                connection = await control.connect(TENANT)
                client = OwnerClient(connection, patience_s=10)
                with client.map(digest, 0) as mapped:
                    wait_for(ProgressReader(mapped.progress))
                for message in last_words:
                    connection.send(encode(message))
                if len(last_words) == 1:
                    connection.close()
                await settled(control, lambda account: not account.workers)
                await settled(control, lambda account: not account.devices[0].resident_bytes)

    run(scenario)


def test_a_check_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")
    digest = read_manifest(directory)[1].slabs[0].digest

    async def scenario() -> None:
        async with running_owner(f"host:{64 * MIB}:{10 * MIB}") as control:
            await control.load(TENANT, directory)
            for messages in ([Check(1)], [Map(1, digest, 0), Check(1)]):
                with await control.connect(TENANT) as connection:
                    connection.settimeout(10)
                    for message in messages:
                        connection.send(encode(message))
                    while connection.recv(1 << 16):
                        pass
            await settled(control, lambda account: not account.workers)

    run(scenario)
