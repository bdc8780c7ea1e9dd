from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from worker_client import Failed, ForkServer, Worker, write_app

from dsfn.runtime.worker.frames import Kind

Spawn = Callable[[], Worker]

HUNGRY = """
    import numpy, torch

    @dsfn.function
    def take(how: str) -> int:
        if how == "python":
            pieces = []
            while True:
                pieces.append(bytes(1_000_000))
        if how == "numpy":
            return int(numpy.ones(1 << 28).sum())
        if how == "torch":
            return int(torch.ones(1 << 28).sum())
        return len(bytes(10_000_000))
"""


@pytest.mark.parametrize("how", ["python", "numpy", "torch"])
def test_a_call_over_its_memory_fails_alone(
    server: ForkServer, spawn: Spawn, tmp_path: Path, how: str
) -> None:
    bundle = write_app(tmp_path, HUNGRY)
    limited, free = spawn(), spawn()
    assert limited.load(bundle, "take", memory_bytes=100 << 20).kind is Kind.READY
    free.load(bundle, "take")
    assert limited.call(how="little") == 10_000_000
    with pytest.raises(Failed) as caught:
        limited.call(how=how)
    assert caught.value.error == "OutOfMemory"
    assert caught.value.fields == {"limit_bytes": 100 << 20}
    with pytest.raises(EOFError):
        limited.receive()
    assert server.exit_status(limited) == 0
    assert free.call(how="little") == 10_000_000


def test_a_parked_replica_comes_back(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path,
        """
        @dsfn.function
        class Count:
            def setup(self) -> None:
                self.restores = 0

            def after_restore(self) -> None:
                self.restores += 1

            def __call__(self) -> int:
                return self.restores
        """,
    )
    worker = spawn()
    worker.load(bundle, "count")
    worker.request(Kind.PARK)
    assert worker.receive().kind is Kind.PARKED
    worker.request(Kind.UNPARK)
    unparked = worker.receive()
    assert unparked.kind is Kind.UNPARKED and unparked.json()["restore_us"] >= 0
    assert worker.call() == 2
