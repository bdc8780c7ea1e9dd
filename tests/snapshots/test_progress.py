"""The page on which a worker sees how far its copy is."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest
from owner_scenes import MIB, TENANT, descriptors, run, running_owner, settled, snapshot

from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.progress import PAGE_BYTES, ProgressPage, ProgressReader, State
from dsfn.snapshots.reading import read_manifest


def test_a_reader_sees_what_the_owner_writes_until_it_closes() -> None:
    page = ProgressPage()
    reader = ProgressReader(page.descriptor)
    assert (reader.arrived_bytes, reader.state) == (0, State.RUNNING)
    page.advance((1 << 40) + 5)
    page.end(State.FAILED, 7)
    page.close()
    assert (reader.arrived_bytes, reader.state) == ((1 << 40) + 5, State.FAILED)
    reader.close()
    with pytest.raises(ValueError, match="released"):
        _ = reader.state


def test_whoever_has_the_page_can_neither_write_to_it_nor_cut_it_short() -> None:
    page = ProgressPage()
    again = os.open(f"/proc/self/fd/{page.descriptor}", os.O_RDWR)
    for descriptor in (page.descriptor, again):
        for harm in (
            lambda at: os.pwrite(at, b"x", 0),
            lambda at: os.ftruncate(at, 0),
            lambda at: mmap.mmap(at, PAGE_BYTES),
            lambda at: os.posix_fallocate(at, 0, 2 * PAGE_BYTES),
        ):
            with pytest.raises(PermissionError):
                harm(descriptor)
    os.close(again)
    page.advance(7)
    reader = ProgressReader(page.descriptor)
    assert reader.arrived_bytes == 7
    reader.close()
    page.close()


def test_a_worker_sees_its_copy_come_and_the_page_ends_with_the_mapping(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")
    (slab,) = read_manifest(directory)[1].slabs

    async def scenario() -> None:
        async with running_owner(f"host:{64 * MIB}:{20 * MIB}") as control:
            await control.load(TENANT, directory)
            client = OwnerClient(await control.connect(TENANT), patience_s=10)
            await control.account()  # the owner has closed what came with the connection
            before = descriptors("self"), descriptors(control.pid)
            with client.map(slab.digest, 0) as mapped:
                reader = ProgressReader(mapped.progress)
            seen = {0}
            while reader.state is State.RUNNING:
                seen.add(reader.arrived_bytes)
                time.sleep(0.02)
            assert reader.state is State.DONE
            assert reader.arrived_bytes == slab.data_bytes
            assert len(seen) > 4
            client.arrived(mapped.number)
            client.release(mapped.number)
            reader.close()
            await control.trim()
            await settled(control, lambda account: not account.mappings)
            assert (descriptors("self"), descriptors(control.pid)) == before

    run(scenario)
