"""Slabs on two GPUs that reach each other. Skipped where there are none."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import torch
from owner_scenes import MIB, TENANT, running_owner, settled

if torch.cuda.device_count() < 2:
    pytest.skip("needs two NVIDIA GPUs", allow_module_level=True)
pytest.importorskip("cuda.bindings", reason="needs the extra dsfn[cuda]")

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.cuda import CudaMemory
from dsfn.snapshots.memory import Memory
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.memory import OwnedSlab
from dsfn.snapshots.restore import Restored, restore
from dsfn.snapshots.verify import verify

pytestmark = pytest.mark.gpu

SLAB_BYTES = 512 * MIB


def owner() -> AbstractAsyncContextManager[OwnerControl]:
    return running_owner(
        "cuda:0", "cuda:1", arena_bytes=SLAB_BYTES + 64 * MIB, granule_bytes=64 * MIB
    )


def blob(directory: Path) -> tuple[Path, torch.Tensor]:
    directory.mkdir()
    bits = torch.randint(-128, 127, (SLAB_BYTES,), dtype=torch.int8, device="cuda")
    capture({"weight": bits}, Classes(), directory)
    return directory, bits.cpu()


async def connected(control: OwnerControl, index: int) -> CudaMemory:
    client = OwnerClient(await control.connect(TENANT, [index]), patience_s=20)
    return CudaMemory(client, index, index)


def weight(restored: Restored) -> torch.Tensor:
    tensor = restored.state["weight"]
    assert isinstance(tensor, torch.Tensor)
    return tensor


async def both(control: OwnerControl) -> dict[str, Memory]:
    """The memories of a worker that has both GPUs: it has one socket for them."""
    client = OwnerClient(await control.connect(TENANT, [0, 1]), patience_s=20)
    gpus = {f"gpu:{index}": CudaMemory(client, index, index) for index in (0, 1)}
    return {"cpu": CpuMemory(), **gpus}


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


def test_a_slab_that_comes_over_both_links_is_right_on_either_gpu(tmp_path: Path) -> None:
    directory, bits = blob(tmp_path / "a")

    async def scenario() -> None:
        for index in (0, 1):
            async with owner() as control:
                await control.load(TENANT, directory)
                restored = restore(directory, Classes(), {"gpu:0": await connected(control, index)})
                assert weight(restored).device.index == index
                assert torch.equal(weight(restored).cpu(), bits)
                carried = (await control.account()).links[1 - index].relayed_bytes
                assert carried > 0  # how much is what the benchmark measures
                weight(restored).fill_(1)
                restored.slabs["gpu:0"].park()
                restored.slabs["gpu:0"].unpark()
                assert torch.equal(weight(restored).cpu(), bits)

    run(scenario)


def test_a_state_on_both_gpus_and_the_cpu_comes_back_and_parks_each_part_where_it_was(
    tmp_path: Path,
) -> None:
    numbers = torch.arange(8 << 20)
    state = {
        "first": numbers.to("cuda:0"),
        "second": numbers.neg().to("cuda:1"),
        "here": numbers[:1000].clone(),
    }
    capture(state, Classes(), tmp_path)

    def assert_is_as_captured(restored: Restored) -> None:
        for name, tensor in state.items():
            found = restored.state[name]
            assert isinstance(found, torch.Tensor)
            assert found.device == tensor.device
            assert torch.equal(found, tensor)

    async def scenario() -> None:
        async with owner() as control:
            await control.load(TENANT, tmp_path)
            memories = await both(control)
            restored = restore(tmp_path, Classes(), memories)
            assert set(restored.slabs) == {"cpu", "gpu:0", "gpu:1"}
            assert_is_as_captured(restored)
            for _ in range(2):
                there = (await control.account()).devices
                assert all(device.resident_bytes >= 64 * MIB for device in there)
                for name in state:
                    tensor = restored.state[name]
                    assert isinstance(tensor, torch.Tensor)
                    tensor.fill_(7)  # lost with the park
                for slab in restored.slabs.values():
                    slab.park()
                parked = await control.account()
                assert parked.mappings == 0
                assert [device.resident_bytes for device in parked.devices] == [0, 0]
                for slab in restored.slabs.values():
                    slab.unpark()
                assert_is_as_captured(restored)
            verify(tmp_path, Classes(), memories)

    run(scenario)


def test_a_parked_slab_comes_back_from_the_neighbours_memory(tmp_path: Path) -> None:
    directory, bits = blob(tmp_path / "a")

    async def scenario() -> None:
        async with owner() as control:
            await control.load(TENANT, directory)
            restored = restore(directory, Classes(), {"gpu:0": await connected(control, 0)})
            slab = restored.slabs["gpu:0"]
            assert isinstance(slab, OwnedSlab)
            weight(restored).fill_(1)
            assert not slab.is_intact()
            slab.park()
            await settled(control, lambda account: account.devices[1].neighbour_bytes > 0)
            while any(each.readers for each in await control.slabs()):
                await asyncio.sleep(0.01)
            before = (await control.account()).links
            slab.unpark()
            after = (await control.account()).links
            assert after[0].kept_bytes - before[0].kept_bytes >= SLAB_BYTES
            assert after[0].own_bytes == before[0].own_bytes
            assert slab.is_intact()
            assert torch.equal(weight(restored).cpu(), bits)
            await control.trim()
            assert (await control.account()).devices[1].neighbour_bytes == 0

    run(scenario)


def test_both_gpus_restore_at_once(tmp_path: Path) -> None:
    directory, bits = blob(tmp_path / "a")

    async def scenario() -> None:
        async with owner() as control:
            await control.load(TENANT, directory)
            memories = [await connected(control, index) for index in (0, 1, 0, 1)]
            found = await asyncio.gather(
                *(
                    asyncio.to_thread(restore, directory, Classes(), {"gpu:0": each})
                    for each in memories
                )
            )
            for restored in found:
                assert torch.equal(weight(restored).cpu(), bits)

    run(scenario)


def test_both_gpus_have_their_memory_back_when_the_owner_is_killed(tmp_path: Path) -> None:
    directory, _ = blob(tmp_path / "a")
    torch.cuda.empty_cache()
    before = [torch.cuda.mem_get_info(index)[0] for index in (0, 1)]

    async def scenario() -> None:
        async with owner() as control:
            await control.load(TENANT, directory)
            memory = await connected(control, 0)
            restoring = asyncio.create_task(
                asyncio.to_thread(restore, directory, Classes(), {"gpu:0": memory})
            )
            await settled(control, lambda account: account.mappings == 1)
            os.kill(control.pid, signal.SIGKILL)
            await asyncio.wait([restoring])

    run(scenario)
    for index in (0, 1):
        assert abs(torch.cuda.mem_get_info(index)[0] - before[index]) <= 16 * MIB
