"""Snapshots of models that live on a GPU. Skipped where there is none."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import torch
from owner_scenes import MIB, TENANT, descriptors, running_owner, settled

if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU", allow_module_level=True)
pytest.importorskip("cuda.bindings", reason="needs the extra dsfn[cuda]")

from dsfn.functions.errors import DeviceFault, MemoryFull, OwnerLost, SnapshotError
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.cuda import CudaMemory
from dsfn.snapshots.memory import Memory
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.cuda import CudaDevice
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.restore import Restored, restore
from dsfn.snapshots.verify import verify

pytestmark = pytest.mark.gpu

GPU = "cuda:0"
GRANULE_BYTES = 64 * MIB
GIB = 1 << 30

WORKER = """
import socket, sys
from pathlib import Path
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cuda import CudaMemory
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.restore import restore
memory = CudaMemory(OwnerClient(socket.socket(fileno=int(sys.argv[1]))))
print("ready", flush=True)
restored = restore(Path(sys.argv[2]), Classes(), {"gpu:0": memory})
print("restored", flush=True)
sys.stdin.read()
"""


def owner(arena_bytes: int = 512 * MIB) -> AbstractAsyncContextManager[OwnerControl]:
    return running_owner(GPU, arena_bytes=arena_bytes, granule_bytes=GRANULE_BYTES)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


def free_bytes() -> int:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]


def small_model() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(2048, 2048) for _ in range(6)]  # 100 MB
    return torch.nn.Sequential(*layers).eval().to("cuda")


def taken(directory: Path) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """A snapshot of a model, an input, and what the model answers to it."""
    directory.mkdir()
    model = small_model()
    given = torch.randn(4, 2048, device="cuda")
    with torch.inference_mode():
        answer = model(given)
    capture({"model": model, "nothing": torch.empty(0, device="cuda")}, Classes(), directory)
    return directory, given, answer


def blob(directory: Path, size_bytes: int) -> Path:
    directory.mkdir()
    bits = torch.randint(-128, 127, (size_bytes,), dtype=torch.int8, device="cuda")
    capture({"weight": bits}, Classes(), directory)
    return directory


async def connected(control: OwnerControl) -> CudaMemory:
    return CudaMemory(OwnerClient(await control.connect(TENANT), patience_s=20))


def model_of(restored: Restored) -> torch.nn.Module:
    model = restored.state["model"]
    assert isinstance(model, torch.nn.Module)
    return model


def test_a_model_on_the_gpu_comes_back_byte_for_byte_and_verifies(tmp_path: Path) -> None:
    directory, given, answer = taken(tmp_path / "a")
    _, manifest = read_manifest(directory)
    assert manifest.device_class == torch.cuda.get_device_name()

    async def scenario() -> None:
        async with owner() as control:
            await control.load(TENANT, directory)
            memory = await connected(control)
            assert verify(directory, Classes(), {"gpu:0": memory}).bytes == manifest.slab_bytes
            restored = restore(directory, Classes(), {"gpu:0": memory})
            model = model_of(restored)
            assert all(each.is_cuda for each in model.parameters())
            nothing = restored.state["nothing"]
            assert isinstance(nothing, torch.Tensor)
            assert nothing.is_cuda
            with torch.inference_mode():
                assert torch.equal(model(given), answer)

    run(scenario)


def test_a_snapshot_of_a_gpu_does_not_restore_on_a_cpu(tmp_path: Path) -> None:
    directory, _, _ = taken(tmp_path / "a")
    with pytest.raises(SnapshotError, match="needs gpu:0"):
        restore(directory, Classes(), {"cpu": CpuMemory()})


def test_tensors_on_cpu_and_gpu_come_back_each_on_its_own(tmp_path: Path) -> None:
    state = {"there": torch.arange(1000, device="cuda"), "here": torch.arange(3)}
    capture(state, Classes(), tmp_path)

    async def scenario() -> None:
        async with owner() as control:
            await control.load(TENANT, tmp_path)
            memories: dict[str, Memory] = {"cpu": CpuMemory(), "gpu:0": await connected(control)}
            verify(tmp_path, Classes(), memories)
            found = restore(tmp_path, Classes(), memories).state
            for name, tensor in state.items():
                other = found[name]
                assert isinstance(other, torch.Tensor)
                assert other.device == tensor.device
                assert torch.equal(other, tensor)

    run(scenario)


def test_a_graph_captured_before_a_park_replays_right_after_it(tmp_path: Path) -> None:
    directory, given, answer = taken(tmp_path / "a")

    async def scenario() -> None:
        async with owner() as control:
            await control.load(TENANT, directory)
            restored = restore(directory, Classes(), {"gpu:0": await connected(control)})
            model = model_of(restored)
            addresses = [each.data_ptr() for each in model.parameters()]
            graph, fixed = torch.cuda.CUDAGraph(), given.clone()
            with torch.inference_mode():
                model(fixed)
                torch.cuda.synchronize()
                with torch.cuda.graph(graph):
                    out = model(fixed)
            for _ in range(3):
                with torch.no_grad():
                    next(model.parameters()).fill_(3)  # lost with the park
                free = free_bytes()
                restored.slabs["gpu:0"].park()
                await control.trim()
                assert free_bytes() - free >= 96 * MIB
                with torch.inference_mode():
                    out.zero_()
                restored.slabs["gpu:0"].unpark()
                assert [each.data_ptr() for each in model.parameters()] == addresses
                graph.replay()
                assert torch.equal(out, answer)

    run(scenario)


def test_a_park_waits_for_what_still_runs(tmp_path: Path) -> None:
    directory = blob(tmp_path / "a", 256 * MIB)

    async def scenario() -> None:
        async with owner() as control:
            await control.load(TENANT, directory)
            restored = restore(directory, Classes(), {"gpu:0": await connected(control)})
            weight = restored.state["weight"]
            assert isinstance(weight, torch.Tensor)
            right = weight.sum(dtype=torch.int64).item()
            torch.cuda._sleep(200_000_000)  # type: ignore[no-untyped-call]  # a tenth of a second
            total = weight.sum(dtype=torch.int64)
            restored.slabs["gpu:0"].park()
            assert total.item() == right

    run(scenario)


def test_memory_that_others_hold_is_refused_before_anything_is_mapped(tmp_path: Path) -> None:
    directory, given, answer = taken(tmp_path / "a")

    async def scenario() -> None:
        async with owner() as control:
            await control.load(TENANT, directory)
            memory = await connected(control)
            free = free_bytes()
            hog = torch.empty(free - 64 * MIB, dtype=torch.uint8, device="cuda")
            with pytest.raises(MemoryFull):
                restore(directory, Classes(), {"gpu:0": memory})
            account = await control.account()
            assert (account.mappings, account.devices[0].resident_bytes) == (0, 0)
            del hog
            free_bytes()
            with torch.inference_mode():
                restored = restore(directory, Classes(), {"gpu:0": memory})
                assert torch.equal(model_of(restored)(given), answer)

    run(scenario)


def test_a_restore_fails_when_the_owner_is_killed_in_the_middle_of_its_copy(tmp_path: Path) -> None:
    directory = blob(tmp_path / "a", GIB)
    before = free_bytes()

    async def scenario() -> None:
        async with owner(GIB + 64 * MIB) as control:
            await control.load(TENANT, directory)
            memory, open_before = await connected(control), descriptors("self")
            restoring = asyncio.create_task(
                asyncio.to_thread(restore, directory, Classes(), {"gpu:0": memory})
            )
            await settled(control, lambda account: account.mappings == 1)
            os.kill(control.pid, signal.SIGKILL)
            with pytest.raises(OwnerLost):
                await restoring
            assert descriptors("self") <= open_before

    run(scenario)
    gc.collect()
    assert abs(free_bytes() - before) <= 16 * MIB


def test_memory_of_a_worker_that_is_killed_comes_back(tmp_path: Path) -> None:
    directory = blob(tmp_path / "a", GIB)

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
        await settled(control, lambda account: not account.devices[0].resident_bytes)

    async def scenario() -> None:
        async with owner(GIB + 64 * MIB) as control:
            await control.load(TENANT, directory)
            before, open_before = free_bytes(), descriptors(control.pid)
            await killed(control, "ready\n")  # in the middle of its copy
            await killed(control, "restored\n")
            await settled(control, lambda _: abs(free_bytes() - before) <= 16 * MIB)
            assert descriptors(control.pid) == open_before
            restore(directory, Classes(), {"gpu:0": await connected(control)})

    run(scenario)


def test_many_restores_leak_neither_memory_nor_descriptors(tmp_path: Path) -> None:
    directory, given, answer = taken(tmp_path / "a")

    async def rounds(control: OwnerControl, count: int) -> tuple[int, int, int]:
        for _ in range(count):
            restored = restore(directory, Classes(), {"gpu:0": await connected(control)})
            restored.slabs["gpu:0"].park()
            restored.slabs["gpu:0"].unpark()
            with torch.inference_mode():
                assert torch.equal(model_of(restored)(given), answer)
            restored.slabs["gpu:0"].close()
            del restored
            gc.collect()
            await settled(control, lambda account: account.workers == 0)
        await control.trim()
        return free_bytes(), descriptors("self"), descriptors(control.pid)

    async def scenario() -> None:
        async with owner() as control:
            await control.load(TENANT, directory)
            before = await rounds(control, 3)
            after = await rounds(control, 20)
            assert after[1:] == before[1:]
            assert abs(after[0] - before[0]) <= 4 * MIB

    run(scenario)


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(DeviceFault, match="There is no GPU 1000"):
        CudaDevice(1000)
