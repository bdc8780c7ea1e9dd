"""What a worker does with memory of the owner: restores, parks, and what tenants share."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from owner_scenes import (
    FAST,
    MIB,
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

from dsfn.functions.errors import (
    MemoryFull,
    SnapshotError,
    UsageError,
)
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.memory import Memory
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.host import HostDevice
from dsfn.snapshots.owner.memory import OwnedMemory
from dsfn.snapshots.owner.pool import GranulePool
from dsfn.snapshots.owner.space import HostSpace
from dsfn.snapshots.restore import Restored, restore
from dsfn.snapshots.verify import verify


def test_a_snapshot_comes_back_byte_for_byte_and_verifies(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            assert verify(directory, Classes(), {"gpu:0": await connected(control)}).tensors == 3

    run(scenario)


def test_a_state_on_the_cpu_and_on_two_gpus_comes_back_on_each(tmp_path: Path) -> None:
    state = {
        "here": torch.arange(1000),
        "first": torch.randn(MIB),
        "second": torch.randn(MIB, 2).bfloat16(),
        "nothing": torch.empty(0),
    }
    places = {id(state["here"]): "cpu", id(state["second"]): "gpu:1", id(state["nothing"]): "gpu:2"}
    capture(state, Classes(), tmp_path, place=lambda each: places.get(id(each), "gpu:0"))

    async def scenario() -> None:
        async with running_owner(FAST, FAST) as control:
            await control.load(TENANT, tmp_path)
            assert (await control.account()).slabs == 2
            client = OwnerClient(await control.connect(TENANT, (0, 1)), patience_s=10)
            first, second = (OwnedMemory(client, HostSpace(), device) for device in (0, 1))
            memories: dict[str, Memory] = {
                "cpu": CpuMemory(),
                "gpu:0": first,
                "gpu:1": second,
                "gpu:2": second,
            }
            assert verify(tmp_path, Classes(), memories).tensors == 4
            restored = restore(tmp_path, Classes(), memories)
            held = [device.resident_bytes for device in (await control.account()).devices]
            assert held == [4 * MIB, 4 * MIB]
            for slab in restored.slabs.values():
                slab.park()
            assert (await control.account()).mappings == 0
            for slab in restored.slabs.values():
                slab.unpark()
            for name, tensor in state.items():
                assert torch.equal(restored.state[name], tensor)  # type: ignore[arg-type]

    run(scenario)


def test_a_slab_comes_over_a_neighbours_link_too_and_is_right(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        link = f"host:{64 * MIB}:{20 * MIB}"
        async with running_owner(link, link, link) as control:
            await control.load(TENANT, directory)
            memories = [await connected(control, device=number) for number in range(3)]
            for memory in memories:
                verify(directory, Classes(), {"gpu:0": memory})
            account = await control.account()
            assert all(each.own_bytes > 2 * MIB for each in account.links)
            assert all(each.relayed_bytes > 2 * MIB for each in account.links)
            assert account.devices[0].staging_bytes == 6 * MIB
            for device in account.devices:
                assert device.others_bytes == device.staging_bytes  # there is no reserve here

    run(scenario)


def test_a_parked_slab_holds_no_memory_and_comes_back_under_its_addresses(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            restored = restore(directory, Classes(), {"gpu:0": await connected(control)})
            tensor, before = weight(restored), weight(restored).clone()
            address = tensor.data_ptr()
            tensor.fill_(7)
            restored.slabs["gpu:0"].park()
            account = await control.account()
            assert (account.mappings, account.devices[0].resident_bytes) == (0, 0)
            restored.slabs["gpu:0"].park()
            restored.slabs["gpu:0"].unpark()
            assert tensor.data_ptr() == address
            assert torch.equal(tensor, before)
            restored.slabs["gpu:0"].unpark()
            account = await control.account()
            assert account.mappings == 1
            assert account.devices[0].resident_bytes == 12 * MIB
            assert account.devices[0].pooled_bytes == 0

    run(scenario)


def test_memory_is_kept_for_its_tenant_and_never_given_to_another(tmp_path: Path) -> None:
    long, short = snapshot(tmp_path / "a", 11 * MIB), snapshot(tmp_path / "b", 10 * MIB)

    def last_bytes(restored: Restored) -> torch.Tensor:
        """Bytes of the last granule, beyond the slab: what was there before."""
        storage = restored.slabs["gpu:0"].storage(12 * MIB - 1000, 1000)
        return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (1000,), (1,))

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, long)
            await control.load(TENANT, short)
            await control.load("two", short)
            one, two = await connected(control), await connected(control, "two")
            first = restore(long, Classes(), {"gpu:0": one})
            last_bytes(first).fill_(9)
            first.slabs["gpu:0"].park()
            assert (await control.account()).devices[0].pooled_bytes == 12 * MIB
            again = restore(short, Classes(), {"gpu:0": one})
            other = restore(short, Classes(), {"gpu:0": two})
            assert set(last_bytes(again).tolist()) == {9}
            assert set(last_bytes(other).tolist()) == {0}
            account = (await control.account()).devices[0]
            assert (account.resident_bytes, account.pooled_bytes) == (24 * MIB, 0)

    run(scenario)


def test_idle_memory_of_another_tenant_goes_back_when_memory_is_short(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(f"host:{16 * MIB}:0") as control:
            await control.load(TENANT, directory)
            await control.load("two", directory)
            first = restore(directory, Classes(), {"gpu:0": await connected(control)})
            first.slabs["gpu:0"].park()
            second = restore(directory, Classes(), {"gpu:0": await connected(control, "two")})
            account = (await control.account()).devices[0]
            assert (account.resident_bytes, account.pooled_bytes) == (12 * MIB, 4 * MIB)
            second.slabs["gpu:0"].park()
            await control.trim()
            account = (await control.account()).devices[0]
            assert (account.pooled_bytes, account.free_bytes) == (0, 16 * MIB)

    run(scenario)


def test_what_does_not_fit_the_device_is_refused_before_anything_is_mapped(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(f"host:{32 * MIB}:0", reserve_bytes=10 * MIB) as control:
            await control.load(TENANT, directory)
            first = restore(directory, Classes(), {"gpu:0": await connected(control)})
            before = await control.account()
            second = await connected(control)
            with pytest.raises(MemoryFull) as refusal:
                restore(directory, Classes(), {"gpu:0": second})
            assert refusal.value.fields["what"] == "device"
            assert refusal.value.fields["needed_bytes"] == 12 * MIB
            assert refusal.value.fields["free_bytes"] == 10 * MIB
            account = await control.account()
            assert account.devices == before.devices
            assert account.mappings == 1
            first.slabs["gpu:0"].park()
            restored = restore(directory, Classes(), {"gpu:0": second})
            with pytest.raises(MemoryFull):
                first.slabs["gpu:0"].unpark()
            restored.slabs["gpu:0"].park()
            first.slabs["gpu:0"].unpark()

    run(scenario)


def test_a_tensor_that_outlives_its_slab_keeps_its_memory(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            memory = await connected(control)
            restored = restore(directory, Classes(), {"gpu:0": memory})
            slab, tensor = restored.slabs["gpu:0"], weight(restored)
            before = tensor.clone()
            del restored
            slab.close()
            slab.close()
            assert torch.equal(tensor, before)
            with pytest.raises(SnapshotError, match="closed"):
                slab.unpark()
            del tensor
            gc.collect()
            slab.close()
            assert (await control.account()).mappings == 0

    run(scenario)


def test_many_restores_leak_neither_descriptors_nor_memory(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def rounds(control: OwnerControl, count: int) -> tuple[int, int, int]:
        for _ in range(count):
            memory = await connected(control)
            restored = restore(directory, Classes(), {"gpu:0": memory})
            restored.slabs["gpu:0"].park()
            restored.slabs["gpu:0"].unpark()
            restored.slabs["gpu:0"].close()
            del restored, memory
            gc.collect()
            await settled(control, lambda account: account.workers == 0)
        await control.trim()
        return descriptors("self"), descriptors(control.pid), shared_bytes(control.pid)

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            before = await rounds(control, 2)
            assert await rounds(control, 20) == before

    run(scenario)


def test_a_slab_gets_few_large_granules_and_small_ones_for_the_rest() -> None:
    pool = GranulePool(HostDevice(64 * MIB, 0), [4 * MIB, 16 * MIB], 0)
    granules = pool.take(TENANT, 41 * MIB)
    assert [granule.size_bytes // MIB for granule in granules] == [16, 16, 4, 4, 2]
    pool.give(TENANT, granules)
    pool.trim()
    with pytest.raises(UsageError):
        GranulePool(HostDevice(64 * MIB, 0), [3 * MIB], 0)
