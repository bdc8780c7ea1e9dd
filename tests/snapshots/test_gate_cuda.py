"""Code that runs on a GPU while its weights arrive. Skipped where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest
import torch
from owner_scenes import MIB, TENANT, running_owner

if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU", allow_module_level=True)
pytest.importorskip("cuda.bindings", reason="needs the extra dsfn[cuda]")

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cuda import CudaMemory
from dsfn.snapshots.gate import gated
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.messages import Start
from dsfn.snapshots.restore import Restored, restore
from dsfn.snapshots.starving import StarvingMemory

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("alone")]

WIDTH = 1024


@pytest.fixture
def given() -> torch.Tensor:
    return torch.randn(4, WIDTH, device="cuda")


@pytest.fixture
def starving(tmp_path: Path) -> Iterator[Restored]:
    """A chain of layers, none of whose bytes is there."""
    directory = written(tmp_path / "a")
    with asyncio.Runner() as loop, HostFile.for_arena(256 * MIB) as arena:
        control = loop.run(OwnerControl.start(Start(0, ["cuda:0"], [64 * MIB]), arena))
        try:
            loop.run(control.load(TENANT, directory))
            client = OwnerClient(loop.run(control.connect(TENANT)), patience_s=20)
            memory = StarvingMemory(CudaMemory(client))
            yield restore(directory, Classes(), {"gpu:0": memory}, streams=True)
        finally:
            loop.run(control.stop())


def written(directory: Path, count: int = 6) -> Path:
    directory.mkdir()
    torch.manual_seed(0)
    layers = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(count)]
    capture({"model": torch.nn.Sequential(*layers).eval().to("cuda")}, Classes(), directory)
    return directory


def model_of(restored: Restored) -> torch.nn.Sequential:
    model = restored.state["model"]
    assert isinstance(model, torch.nn.Sequential)
    return model


def layer_of(restored: Restored, number: int) -> torch.nn.Linear:
    layer = model_of(restored)[number]
    assert isinstance(layer, torch.nn.Linear)
    return layer


def again(restored: Restored) -> None:
    """The same addresses, with nothing in them."""
    restored.slabs["gpu:0"].park()
    restored.slabs["gpu:0"].begin_unpark()


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


def test_each_layer_runs_as_soon_as_it_is_there(starving: Restored, given: torch.Tensor) -> None:
    arrived: list[int] = []
    model = model_of(starving)
    arrival = starving.slabs["gpu:0"].arrival
    assert arrival is not None
    for layer in model:
        layer.register_forward_hook(lambda *_: arrived.append(arrival.arrived_bytes))
    with torch.inference_mode(), gated([starving.slabs["gpu:0"]]):
        found = model(given)
    layer_bytes = 4 * (WIDTH * WIDTH + WIDTH)
    assert arrived == [layer_bytes * (number + 1) for number in range(6)]
    with torch.inference_mode():
        assert torch.equal(found, model(given))


def test_a_graph_waits_for_all_before_it_is_replayed(
    starving: Restored, given: torch.Tensor
) -> None:
    starving.slabs["gpu:0"].unpark()
    model, graph, fixed = model_of(starving), torch.cuda.CUDAGraph(), given.clone()
    with torch.inference_mode():
        right = model(fixed)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            out = model(fixed)
    again(starving)
    with torch.inference_mode(), gated([starving.slabs["gpu:0"]]):
        graph.replay()
        found = out.clone()
    assert torch.equal(found, right)


def test_a_kernel_of_triton_waits_for_all(starving: Restored) -> None:
    triton_kernels = pytest.importorskip("triton_kernels_for_tests")
    weight = layer_of(starving, 5).weight.detach()
    with gated([starving.slabs["gpu:0"]]):
        found = triton_kernels.doubled(weight)
    assert torch.equal(found, weight * 2)
    again(starving)
    with gated([starving.slabs["gpu:0"]]):
        found = triton_kernels.doubled_by_compiled(weight)
    assert torch.equal(found, weight * 2)


def test_a_fused_script_waits_for_all(starving: Restored) -> None:
    @torch.jit.script
    def fused(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x * 2 + 1) * 3

    starving.slabs["gpu:0"].unpark()
    weight = layer_of(starving, 5).weight.detach()
    for _ in range(4):
        right = fused(weight)
    again(starving)
    with gated([starving.slabs["gpu:0"]]):
        found = fused(weight)
    assert torch.equal(found, right)


def test_a_backward_pass_waits_for_what_it_reads(starving: Restored, given: torch.Tensor) -> None:
    layer = layer_of(starving, 5)
    with gated([starving.slabs["gpu:0"]]):
        layer(given).sum().backward()
    found = layer.weight.grad
    assert found is not None
    assert torch.equal(found, given.sum(0).expand_as(found))


def test_a_model_that_arrives_from_its_owner_answers_as_before(
    tmp_path: Path, given: torch.Tensor
) -> None:
    directory = written(tmp_path / "a", count=60)

    async def scenario() -> None:
        async with running_owner(
            "cuda:0", arena_bytes=512 * MIB, granule_bytes=64 * MIB
        ) as control:
            await control.load(TENANT, directory)
            memory = CudaMemory(OwnerClient(await control.connect(TENANT), 20))
            restored = restore(directory, Classes(), {"gpu:0": memory})
            model = model_of(restored)
            with torch.inference_mode():
                right = model(given)
                for _ in range(20):
                    again(restored)
                    with gated([restored.slabs["gpu:0"]]):
                        found = model(given)
                    assert torch.equal(found, right)

    run(scenario)
