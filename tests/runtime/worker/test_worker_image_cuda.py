"""Workers of a fork server that has gone on from an image use a GPU. Skipped where there is none.

The image has torch in it, whose libraries have not looked for a driver yet; each worker does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from worker_client import PATIENCE_S, ForkServer, Worker, write_app

if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU", allow_module_level=True)
pytest.importorskip("cuda.bindings", reason="needs the extra dsfn[cuda]")

from dsfn.runtime.libraries import LIBRARIES
from dsfn.runtime.replicas.begun import begin, environment
from dsfn.runtime.worker.frames import Kind
from dsfn.runtime.worker.messages import Gpu
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.messages import Start

pytestmark = pytest.mark.gpu

MIB = 1 << 20
PROOF = "from dsfn.snapshots.process.proof import main; main()"
# Products of whole numbers, so small that they are the same however they are added up.
APP = """
    import os
    import torch

    @dsfn.function(gpu=1)
    def product(size: int) -> dict[str, object]:
        numbers = torch.randint(-8, 8, (size, size), generator=torch.Generator().manual_seed(size))
        floats = numbers.float()
        on_gpu = floats.to("cuda")
        pinned, stream = floats.pin_memory(), torch.cuda.Stream()
        with torch.cuda.stream(stream):
            copied = pinned.to("cuda", non_blocking=True)
            back = torch.empty(size, size, pin_memory=True).copy_(copied, non_blocking=True)
        stream.synchronize()
        return {
            "available": torch.cuda.is_available(),
            "product": torch.equal((on_gpu @ on_gpu).cpu(), floats @ floats),
            "copied": pinned.is_pinned() and torch.equal(back, floats),
            "visible": os.environ["CUDA_VISIBLE_DEVICES"],
            "server": open(f"/proc/{os.getppid()}/cmdline").read().split(chr(0)),
        }
"""
OF_ONE_THAT_HAS_USED_IT = """
import sys, torch
from pathlib import Path
from dsfn.snapshots.process.checkpoint import About, checkpoint
torch.zeros(1, device="cuda")
checkpoint(Path(sys.argv[1]), About({}, [], {}))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of a fork server, which is proved."""
    path = tmp_path_factory.mktemp("images") / "workers.image"
    making = ("-m", "dsfn.runtime.worker.imaging", str(path), ",".join(LIBRARIES))
    for words in (making, ("-S", "-P", "-c", PROOF, str(path))):
        done = _run(*words)
        assert (done.returncode, done.stderr) == (0, "")
    return path


@pytest.fixture
def gpu() -> str:
    """The first GPU by a name that only this machine's has."""
    return f"GPU-{torch.cuda.get_device_properties(0).uuid}"


@pytest.fixture
def server(image: Path, gpu: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    """A fork server that has gone on from it, with a GPU that whoever made it had not heard of."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpu)
    begun = begin(Path(sys.executable), ("torch", "numpy"), in_a_hurry=True, image=image)
    with begun.socket:
        begun.socket.setblocking(True)
        yield ForkServer(begun.process, begun.socket)
    begun.process.wait(PATIENCE_S)


@pytest.fixture
def spawn(server: ForkServer) -> Iterator[Callable[[], Worker]]:
    """Makes its workers, which have a memory owner and end with the test."""
    workers: list[Worker] = []
    with asyncio.Runner() as loop, HostFile.for_arena(64 * MIB) as arena:
        control = loop.run(OwnerControl.start(Start(0, ["cuda:0"], [64 * MIB]), arena))

        def make() -> Worker:
            workers.append(server.spawn(loop.run(control.connect("default"))))
            return workers[-1]

        try:
            yield make
        finally:
            for worker in workers:
                worker.close()
            codes = [server.exit_status(worker) for worker in workers]
            loop.run(control.stop())
    assert codes == [0] * len(workers)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env=environment(), capture_output=True, text=True, timeout=120
    )


def test_workers_of_one_that_has_gone_on_compute_on_a_gpu(
    spawn: Callable[[], Worker], gpu: str, tmp_path: Path
) -> None:
    bundle, workers = write_app(tmp_path, APP), [spawn() for _ in range(2)]
    for worker in workers:
        loaded = worker.load(bundle, "product", gpus=(Gpu(0, "cuda:0"),))
        assert loaded.kind is Kind.READY, loaded.payload
    for number in (256, 1024):
        for worker in workers:
            found = worker.call(size=number)
            assert "dsfn.runtime.worker.imaging" in found.pop("server")
            right = {"available": True, "product": True, "copied": True, "visible": gpu}
            assert found == right


def test_of_a_process_that_has_used_a_gpu_there_is_no_image(tmp_path: Path) -> None:
    done = _run("-c", OF_ONE_THAT_HAS_USED_IT, str(tmp_path / "an.image"))
    assert done.returncode == 1
    assert "Unfit: it has files open: " in done.stderr and "nvidia" in done.stderr
    assert not list(tmp_path.iterdir())
