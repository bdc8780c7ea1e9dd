"""Workers that the node cannot connect to: what was taken for them is given back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from no_leases import no_leases
from revisions import make_revision

from dsfn.functions.errors import ReplicaStartFailed
from dsfn.runtime.brought_back import Stages
from dsfn.runtime.config import GpuSettings, Limits
from dsfn.runtime.deploy.environments import Environment
from dsfn.runtime.gpus.found import Found
from dsfn.runtime.gpus.gpus import Gpus
from dsfn.runtime.gpus.grip import Grip
from dsfn.runtime.gpus.holding import Holding
from dsfn.runtime.logs import LogStore
from dsfn.runtime.replicas.forkserver import WorkerProcess
from dsfn.runtime.replicas.jobs import Jobs
from dsfn.runtime.replicas.launcher import Launcher, Nursery
from dsfn.runtime.replicas.replica import Replica
from dsfn.runtime.worker.messages import Discover, Load

BROKEN = pytest.mark.parametrize("broken", ["socket", "output"])
LOAD = Load("", "", "echo", "", None, "", 1, None, {}, 1, 1, 1, (), False)


@contextmanager
def broken_worker(place: Path, broken: str) -> Iterator[WorkerProcess]:
    """A worker of which a descriptor cannot be used; nothing of it must be left in the end."""
    near, far = socket.socketpair()
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    if broken == "socket":
        near.close()
        output, write_end = os.pipe()
        os.close(write_end)
    else:  # epoll refuses to watch a regular file
        output = os.open(place / "output", os.O_CREAT | os.O_RDWR)
    exited = asyncio.get_running_loop().create_future()
    with far:
        try:
            yield WorkerProcess(process.pid, near, output, None, exited)
            assert process.wait(5) == -signal.SIGKILL
            assert near.fileno() == -1
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(output)
        finally:
            process.kill()


def one_gpu() -> Gpus:
    return Gpus(Found(("host:1000:0",)), GpuSettings(), "default", 1.0)


@BROKEN
def test_a_replica_that_cannot_be_connected_to_gives_its_room_back(
    tmp_path: Path, broken: str
) -> None:
    async def start() -> None:
        gpus, leases = one_gpu(), no_leases()
        holding = Holding(gpus.all(), {0: 100}, 0, present=True, started=True)
        gpus.add(holding)
        with broken_worker(tmp_path, broken) as worker:
            grip, nobody = Grip(gpus, holding), lambda _: None
            replica = Replica(
                make_revision(1), worker, grip, leases, Limits(), nobody, nobody, nobody
            )
            with pytest.raises(ReplicaStartFailed, match="the operating system refused"):
                await replica.load(LogStore(tmp_path), LOAD, Stages())
        assert not gpus.rooms[0].holdings
        assert leases.taken()[-1].closes

    asyncio.run(start())


@BROKEN
def test_a_job_that_cannot_be_connected_to_leaves_no_process(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        with broken_worker(tmp_path, broken) as worker:

            async def adopt(_: Nursery) -> WorkerProcess:
                return worker

            monkeypatch.setattr(Nursery, "adopt", adopt)
            jobs = Jobs(Launcher(0), one_gpu(), no_leases())
            with pytest.raises(OSError, match=r"Bad file descriptor|Operation not permitted"):
                await jobs.run(Environment("", Path("python")), Discover("", ""), 1.0)

    asyncio.run(run())
