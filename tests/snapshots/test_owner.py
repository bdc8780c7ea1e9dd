"""The memory owner, its sockets and its worker's side, on a stand-in for the GPU."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from owner_scenes import MIB, TENANT, descriptors, running_owner, settled, shared_bytes, snapshot

from dsfn.functions.errors import (
    BadMessage,
    Conflict,
    CorruptSnapshot,
    MemoryFull,
    NotFound,
    OwnerLost,
    SnapshotError,
    UsageError,
)
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.format import slab_file
from dsfn.snapshots.memory import Memory
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.host import HostDevice
from dsfn.snapshots.owner.memory import OwnedMemory
from dsfn.snapshots.owner.messages import Map, Message, Start, decode, encode
from dsfn.snapshots.owner.pool import GranulePool
from dsfn.snapshots.owner.ranges import Ranges
from dsfn.snapshots.owner.space import HostSpace
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.restore import Restored, restore
from dsfn.snapshots.verify import verify

FAST = f"host:{64 * MIB}:0"
SLOW = f"host:{64 * MIB}:{5 * MIB}"  # its bus takes two seconds for ten MiB

WORKER = """
import socket, sys
from pathlib import Path
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.memory import OwnedMemory
from dsfn.snapshots.owner.space import HostSpace
from dsfn.snapshots.restore import restore
memory = OwnedMemory(OwnerClient(socket.socket(fileno=int(sys.argv[1]))), HostSpace())
print("ready", flush=True)
restored = restore(Path(sys.argv[2]), Classes(), {"gpu:0": memory})
print("restored", flush=True)
sys.stdin.read()
"""

NODE = """
import asyncio, sys
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.messages import Start
async def main():
    control = await OwnerControl.start(Start(0, 4 << 20, []))
    print(control.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def connected(control: OwnerControl, tenant: str = TENANT) -> OwnedMemory:
    return OwnedMemory(OwnerClient(await control.connect(tenant), patience_s=10), HostSpace())


def weight(restored: Restored) -> torch.Tensor:
    tensor = restored.state["weight"]
    assert isinstance(tensor, torch.Tensor)
    return tensor


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


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


def test_an_arena_larger_than_the_machine_is_refused() -> None:
    async def scenario() -> None:
        with pytest.raises(MemoryFull) as refusal:
            await OwnerControl.start(Start(0, 1 << 50, []))
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


def test_a_restore_fails_when_the_owner_is_killed_in_the_middle_of_its_copy(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(SLOW) as control:
            await control.load(TENANT, directory)
            memory, before = await connected(control), descriptors("self")
            restoring = asyncio.create_task(
                asyncio.to_thread(restore, directory, Classes(), {"gpu:0": memory})
            )
            await settled(control, lambda account: account.mappings == 1)
            os.kill(control.pid, signal.SIGKILL)
            with pytest.raises(OwnerLost):
                await restoring
            with pytest.raises(OwnerLost):
                restore(directory, Classes(), {"gpu:0": memory})
            with pytest.raises(OwnerLost):
                await control.account()
            assert descriptors("self") <= before

    run(scenario)


def test_a_loaded_worker_goes_on_without_its_owner_until_it_is_parked(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            restored = restore(directory, Classes(), {"gpu:0": await connected(control)})
            before = weight(restored).clone()
            os.kill(control.pid, signal.SIGKILL)
            await asyncio.wait_for(control.lost, 10)
            assert torch.equal(weight(restored), before)
            restored.slabs["gpu:0"].park()
            with pytest.raises(OwnerLost):
                restored.slabs["gpu:0"].unpark()
            restored.slabs["gpu:0"].close()

    run(scenario)


def test_an_owner_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            memory = OwnedMemory(
                OwnerClient(await control.connect(TENANT), patience_s=0.1), HostSpace()
            )
            os.kill(control.pid, signal.SIGSTOP)
            with pytest.raises(OwnerLost, match="no answer"):
                restore(directory, Classes(), {"gpu:0": memory})
            os.kill(control.pid, signal.SIGCONT)
            account = await settled(control, lambda account: not account.devices[0].resident_bytes)
            assert account.workers == 0

    run(scenario)


def test_memory_of_a_worker_that_is_killed_comes_back_and_is_not_pooled(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def killed(control: OwnerControl, last_words: str) -> None:
        connection = await control.connect(TENANT)
        with connection:
            worker = subprocess.Popen(
                [sys.executable, "-c", WORKER, str(connection.fileno()), str(directory)],
                pass_fds=[connection.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert worker.stdin is not None
        assert worker.stdout is not None
        while worker.stdout.readline() != last_words:
            pass
        await settled(control, lambda account: account.mappings == 1)
        worker.kill()
        worker.wait()
        worker.stdin.close()
        worker.stdout.close()
        account = await settled(control, lambda account: not account.devices[0].resident_bytes)
        assert account.devices[0].pooled_bytes == 0
        assert account.devices[0].free_bytes == account.devices[0].total_bytes
        assert account.workers == 0

    async def scenario() -> None:
        async with running_owner(SLOW) as control:
            await control.load(TENANT, directory)
            before = descriptors(control.pid)
            await killed(control, "ready\n")  # in the middle of its copy
            await killed(control, "restored\n")
            assert descriptors(control.pid) == before
            restore(directory, Classes(), {"gpu:0": await connected(control)})

    run(scenario)


def test_the_owner_ends_with_its_node() -> None:
    node = subprocess.Popen([sys.executable, "-c", NODE], stdout=subprocess.PIPE)
    assert node.stdout is not None
    pid = int(node.stdout.readline())
    node.kill()
    node.wait()
    node.stdout.close()
    end_s = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end_s:
        time.sleep(0.01)
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"  # nobody reaps orphans here


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


@pytest.mark.parametrize(
    "packet", [b"{", b"[]", b'{"op":"Map"}', b'{"op":"Map","id":"1","digest":"x"}', b'{"op":"x"}']
)
def test_a_packet_that_is_no_message_is_refused(packet: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(packet)


@given(st.integers(0, 1 << 61), st.text(max_size=50))
def test_a_message_is_read_back_as_it_was_written(number: int, digest: str) -> None:
    message: Message = Map(number, digest, 0)
    assert decode(encode(message)) == message


def test_a_worker_that_talks_nonsense_is_dropped_and_others_are_served(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            foreign = encode(Map(1, "", device=1))
            for packet in (
                b"nonsense",
                b'{"op":"Query","id":1}',
                b'{"op":"Release","id":1}',
                foreign,
            ):
                with await control.connect(TENANT) as liar:
                    liar.settimeout(10)
                    liar.send(packet)
                    assert liar.recv(1) == b""
            assert (await control.account()).workers == 0
            restore(directory, Classes(), {"gpu:0": await connected(control)})

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


def test_a_slab_gets_few_large_granules_and_small_ones_for_the_rest() -> None:
    pool = GranulePool(HostDevice(64 * MIB, 0), [4 * MIB, 16 * MIB], 0)
    granules = pool.take(TENANT, 41 * MIB)
    assert [granule.size_bytes // MIB for granule in granules] == [16, 16, 4, 4, 2]
    pool.give(TENANT, granules)
    pool.trim()
    with pytest.raises(UsageError):
        GranulePool(HostDevice(64 * MIB, 0), [3 * MIB], 0)


def test_the_owner_imports_no_torch() -> None:
    code = "import dsfn.snapshots.owner.server, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_device_that_there_is_not_is_refused() -> None:
    async def scenario() -> None:
        for name in ("host:1", "cuda:x", "tpu:0"):
            with pytest.raises(UsageError, match="There is no device"):
                await OwnerControl.start(Start(0, MIB, [name]))

    run(scenario)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=60))
def test_ranges_never_overlap_and_every_byte_is_accounted_for(
    steps: list[tuple[bool, int]],
) -> None:
    ranges, taken = Ranges(100), dict[int, int]()
    for take, number in steps:
        if take:
            fits = 0 < number <= ranges.largest_free_bytes
            start = ranges.take(number)
            assert (start is not None) == fits
            if start is not None:
                assert all(start + number <= s or s + n <= start for s, n in taken.items())
                assert 0 <= start <= 100 - number
                taken[start] = number
        elif taken:
            start = sorted(taken)[number % len(taken)]
            ranges.give(start)
            del taken[start]
        assert ranges.used_bytes == sum(taken.values())
        assert ranges.used_bytes + ranges.free_bytes == 100
    for start in taken:
        ranges.give(start)
    assert ranges.largest_free_bytes == 100
