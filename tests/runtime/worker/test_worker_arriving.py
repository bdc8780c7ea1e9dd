"""A replica whose weights arrive while it answers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from worker_client import Failed, ForkServer, Worker, write_app

from dsfn.runtime.worker import frames
from dsfn.runtime.worker.frames import Kind
from dsfn.runtime.worker.messages import Capture, Gpu
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.messages import Start

Spawn = Callable[..., Worker]

MIB = 1 << 20
DEVICE = f"host:{64 * MIB}:{8 * MIB}"  # its bus takes two seconds for the weights below
GPUS = (Gpu(0, DEVICE),)
TENANT = "one"

APP = """
    import torch

    @dsfn.function
    class Model:
        def setup(self) -> None:
            self.layers = [torch.full((1 << 20,), float(n)) for n in range(4)]
            self.restored = 0.0

        def after_restore(self) -> None:
            self.restored = self.layers[0][-1].item() + 1

        def __call__(self, layer: int, swallow: bool = False) -> list[float]:
            try:
                return [self.restored, self.layers[layer][-1].item()]
            except Exception:
                if not swallow:
                    raise
                return []
"""


@dataclass(frozen=True)
class Scene:
    """A worker that has become a replica, and its memory owner."""

    loop: asyncio.Runner
    control: OwnerControl
    worker: Worker

    def arrived_bytes(self) -> int:
        """What has come over the bus."""
        account = self.loop.run(self.control.account())
        return account.links[0].own_bytes


@contextmanager
def arriving(
    spawn: Spawn, directory: Path, streams: bool = True, concurrency: int = 1
) -> Iterator[Scene]:
    bundle = write_app(directory / "app", APP)
    staging = directory / "snapshot"
    staging.mkdir()
    job = Capture(str(bundle), "app.py", "model", str(staging), {}, gpus=GPUS)
    captured = spawn().job(job).json()
    assert captured["captured"], captured
    with asyncio.Runner() as loop, HostFile.for_arena(32 * MIB) as arena:
        control = loop.run(
            OwnerControl.start(Start(0, [DEVICE], [4 * MIB], MIB, reserve_bytes=0), arena)
        )
        try:
            loop.run(control.load(TENANT, staging))
            worker = spawn(loop.run(control.connect(TENANT)))
            ready = worker.load(
                bundle,
                "model",
                snapshot=str(staging),
                gpus=GPUS,
                streams=streams,
                concurrency=concurrency,
            )
            assert ready.kind is Kind.READY, ready.json()
            yield Scene(loop, control, worker)
        finally:
            loop.run(control.stop())


def test_a_replica_answers_before_all_its_weights_are_there(spawn: Spawn, tmp_path: Path) -> None:
    with arriving(spawn, tmp_path) as scene:
        assert scene.worker.call(layer=0) == [1.0, 0.0]
        assert scene.arrived_bytes() < 16 * MIB
        assert scene.worker.call(layer=3) == [1.0, 3.0]
        assert scene.arrived_bytes() == 16 * MIB
        for _ in range(2):
            scene.worker.request(Kind.PARK)
            assert scene.worker.receive().kind is Kind.PARKED
            before = scene.arrived_bytes()
            scene.worker.request(Kind.UNPARK)
            assert scene.worker.receive().kind is Kind.UNPARKED
            assert scene.worker.call(layer=1) == [1.0, 1.0]
            assert scene.arrived_bytes() < before + 16 * MIB


@pytest.mark.parametrize(("streams", "concurrency"), [(False, 1), (True, 2)])
def test_without_a_proof_or_with_calls_side_by_side_a_replica_waits_for_all(
    spawn: Spawn, tmp_path: Path, streams: bool, concurrency: int
) -> None:
    with arriving(spawn, tmp_path, streams, concurrency) as scene:
        assert scene.arrived_bytes() == 16 * MIB
        assert scene.worker.call(layer=3) == [1.0, 3.0]
        scene.worker.request(Kind.PARK)
        assert scene.worker.receive().kind is Kind.PARKED
        scene.worker.request(Kind.UNPARK)
        assert scene.worker.receive().kind is Kind.UNPARKED
        assert scene.arrived_bytes() == 32 * MIB


def test_time_that_weights_take_is_not_the_calls(spawn: Spawn, tmp_path: Path) -> None:
    with arriving(spawn, tmp_path) as scene:
        number = scene.worker.begin(b'{"layer":3}')
        frame = scene.worker.receive()
        assert frame.call == number
        result = frames.decode_result(frame.payload)
        assert result.busy_us < 500_000 < result.weights_us
        scene.worker.begin(b'{"layer":3}')
        assert frames.decode_result(scene.worker.receive().payload).weights_us == 0


@pytest.mark.parametrize("swallow", [False, True])
def test_a_replica_whose_weights_do_not_come_answers_nothing_and_ends(
    server: ForkServer, spawn: Spawn, tmp_path: Path, swallow: bool
) -> None:
    with arriving(spawn, tmp_path) as scene:
        os.kill(scene.control.pid, signal.SIGKILL)
        with pytest.raises(Failed) as failed:
            scene.worker.call(layer=3, swallow=swallow)
        assert failed.value.error == "ReplicaLost"
        assert "memory owner" in str(failed.value.fields["reason"])
        with pytest.raises(EOFError):
            scene.worker.receive()
        assert server.exit_status(scene.worker) == 0
