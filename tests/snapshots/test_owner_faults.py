"""Owners, workers and nodes that are killed, stopped or lost."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from owner_scenes import (
    FAST,
    SLOW,
    TENANT,
    connected,
    descriptors,
    run,
    running_owner,
    settled,
    snapshot,
    weight,
)

from dsfn.functions.errors import (
    DeviceFault,
    OwnerLost,
    UsageError,
)
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.errors import is_lasting, memory_full
from dsfn.snapshots.restore import restore

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
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.messages import Start
async def main():
    control = await OwnerControl.start(Start(0, []), HostFile.for_arena(4 << 20))
    print(control.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_what_is_asked_of_a_dead_owner_is_answered_once_and_leaves_nothing_behind() -> None:
    strays: list[dict[str, object]] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: strays.append(context))
        async with running_owner(FAST) as control:
            os.kill(control.pid, signal.SIGKILL)
            os.waitid(os.P_PID, control.pid, os.WEXITED | os.WNOWAIT)
            # The loop has not turned: nothing has told of the end but the socket itself.
            with pytest.raises(OwnerLost, match="it has ended"):
                await control.slabs()
            gc.collect()

    run(scenario)
    assert strays == []


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
            async with asyncio.timeout(10):
                await control.lost
            assert torch.equal(weight(restored), before)
            restored.slabs["gpu:0"].park()
            with pytest.raises(OwnerLost):
                restored.slabs["gpu:0"].unpark()
            restored.slabs["gpu:0"].close()

    run(scenario)


def test_an_owner_that_is_killed_with_questions_unread_has_ended() -> None:
    async def scenario() -> None:
        async with running_owner(FAST) as control:
            os.kill(control.pid, signal.SIGSTOP)
            question = asyncio.create_task(control.account())
            await asyncio.sleep(0)  # it is sent
            os.kill(control.pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                assert await control.lost == "it has ended"
            with pytest.raises(OwnerLost, match="it has ended"):
                await question

    run(scenario)


def test_an_owner_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            memory = await connected(control, patience_s=0.1)
            os.kill(control.pid, signal.SIGSTOP)
            with pytest.raises(OwnerLost, match="no answer"):
                restore(directory, Classes(), {"gpu:0": memory})
            os.kill(control.pid, signal.SIGCONT)
            await settled(
                control,
                lambda account: not account.workers and not account.devices[0].resident_bytes,
            )

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


def test_what_an_owner_lacks_for_ever_is_told_from_what_may_come_free() -> None:
    assert is_lasting(DeviceFault("No such device.", operation="cuDeviceGet", code=101))
    assert is_lasting(UsageError("There is no device 'gpu0'."))
    assert not is_lasting(DeviceFault("Full.", operation="cuMemHostRegister", code=2))
    assert not is_lasting(memory_full("device", 2, 1))
