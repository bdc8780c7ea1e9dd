"""Functions that share too little memory, of a GPU or of the arena, and what happens to those that
wait for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import disk_usage

import pytest
from deadlines import eventually
from gpu_scenes import MIB, SEEDS, expected, stand_in
from live_node import APPS, DeployFailed, LiveNode, StartNode, start_node

# One of the functions fits the GPU, and all fit the arena.
ONE_FITS = stand_in(20 * MIB)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """A node with room for one of its functions."""
    node = start_node(tmp_path_factory.mktemp("crowded"), gpu=ONE_FITS, queue_timeout_s=20)
    try:
        node.deploy(APPS / "gpus.py")
        yield node
        assert_no_traceback(node)
    finally:
        node.end()


@pytest.mark.parametrize("victim", ["worker", "owner"])
def test_a_replica_that_ends_while_it_waits_for_room_takes_none_with_it(
    crowded: LiveNode, victim: str
) -> None:
    for name in ("alpha", "beta"):  # alpha is parked for beta
        assert crowded.value(name, number=0) == expected(name, 0)
    (waits,) = crowded.pids("alpha")
    with ThreadPoolExecutor(2) as threads:
        busy = threads.submit(crowded.value, "beta", number=1, seconds=1.5)
        eventually(lambda: crowded.states("beta") == ["busy"], "beta to run")
        waiting = threads.submit(crowded.value, "alpha", number=1)
        eventually(lambda: crowded.states("alpha") == ["starting"], "alpha to wait for room")
        os.kill(waits if victim == "worker" else crowded.memory()["pid"], signal.SIGKILL)
        assert busy.result() == expected("beta", 1)
        assert waiting.result() == expected("alpha", 1)
    for number, name in enumerate(("alpha", "beta") * 2):
        assert crowded.value(name, number=number) == expected(name, number)
    assert crowded.memory()["devices"][0]["resident_bytes"] == 16 * MIB


def test_weights_that_somebody_waits_for_do_not_leave_the_arena(start: StartNode) -> None:
    # Two fit the GPU, and two the arena.
    node = start(
        gpu={**ONE_FITS, "devices": [f"host:{40 * MIB}:0"], "arena": f"{40 * MIB}B"},
        queue_timeout_s=30,
    )
    node.deploy(APPS / "gpus.py")

    def call(number: int) -> bool:
        name = list(SEEDS)[number % 3]
        return bool(node.value(name, number=number % 5) == expected(name, number % 5))

    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(call, range(90)))
    assert_no_traceback(node)


def test_who_needs_the_arena_waits_for_what_is_on_its_way_from_there(start: StartNode) -> None:
    # A copy takes most of a second, all fit the GPU, and two the arena.
    node = start(
        gpu={
            **ONE_FITS,
            "devices": [f"host:{100 * MIB}:{20 * MIB}"],
            "arena": f"{40 * MIB}B",
        }
    )
    node.deploy(APPS / "gpus.py")
    for name in SEEDS:
        node.park(name, "absent")
    with ThreadPoolExecutor(3) as threads:
        calls = {}
        for count, name in enumerate(("alpha", "beta"), 1):
            calls[name] = threads.submit(node.value, name, number=1)
            eventually(partial(is_copying, node, count), "a copy")
        assert node.value("gamma", number=1) == expected("gamma", 1)
        for name, answer in calls.items():
            assert answer.result() == expected(name, 1)


def test_what_is_pinned_leaves_the_arena_last_but_keeps_nobody_out(start: StartNode) -> None:
    node = start(gpu={**ONE_FITS, "arena": f"{40 * MIB}B"})  # two slabs
    node.deploy(APPS / "gpus.py")
    for name in ("alpha", "beta"):
        digest = node.describe(name)["snapshot"]["digest"]
        assert node.http.post(f"/snapshots/{digest}/pin").status_code == 200
        assert node.value(name, number=1) == expected(name, 1)
    assert node.value("gamma", number=1) == expected("gamma", 1)
    for name in SEEDS:
        assert node.value(name, number=2) == expected(name, 2)


def test_what_is_in_the_arena_after_a_deployment_is_listed_there(start: StartNode) -> None:
    node = start(gpu=ONE_FITS)
    node.deploy(APPS / "one_gpu.py")
    (found,) = node.http.get("/snapshots").json()["snapshots"]
    assert found["tiers"] == ["arena", "disk"]


def test_a_slab_that_no_arena_could_hold_has_nothing_leave_it(
    start: StartNode, tmp_path: Path
) -> None:
    node = start(gpu={**ONE_FITS, "devices": [f"host:{100 * MIB}:0"], "arena": f"{40 * MIB}B"})
    node.deploy(APPS / "one_gpu.py")
    app = tmp_path / "large.py"
    app.write_text(
        "import dsfn, torch\n"
        "@dsfn.function(gpu=1)\n"
        "class Large:\n"
        "    def setup(self) -> None:\n"
        f"        self.weights = torch.ones({48 * MIB}, dtype=torch.uint8)\n"
        "    def __call__(self) -> int:\n"
        "        return int(self.weights[0])\n"
    )
    assert "The arena has no room" in node.deploy(app)["large"]["snapshot_reason"]
    assert node.memory()["slabs"] == 1


GREEDY = """
import dsfn
import torch


@dsfn.function(gpu=1)
class Greedy:
    def setup(self) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 200.00 GiB.")

    def __call__(self) -> int:
        return 1
"""


@pytest.fixture
def greedy(tmp_path: Path) -> Path:
    """A function whose setup() finds too little memory however much there is."""
    app = tmp_path / "greedy.py"
    app.write_text(GREEDY)
    return app


def test_a_setup_that_wants_a_gpu_alone_leaves_it_to_calls_until_it_can_have_it(
    start: StartNode, greedy: Path
) -> None:
    node = start(gpu={**ONE_FITS, "devices": [f"host:{40 * MIB}:0"]}, setup_timeout_s=5)
    node.deploy(APPS / "gpus.py")
    busy = node.begin("alpha", number=1, seconds=60)
    eventually(lambda: node.states("alpha") == ["busy"], "alpha to run")
    with ThreadPoolExecutor(1) as threads:
        deployment = threads.submit(node.deploy, greedy)
        while not deployment.done():
            for name in ("beta", "gamma"):
                assert node.value(name, number=1) == expected(name, 1)
        with pytest.raises(DeployFailed, match=r"setup\(\) of greedy: .*alpha.* not at rest"):
            deployment.result()
    assert node.states("alpha") == ["busy"]
    busy.close()
    eventually(lambda: node.states("alpha") != ["busy"], "alpha to be at rest")
    with pytest.raises(DeployFailed, match=r"setup\(\) of greedy: (?!.*alone)"):
        node.deploy(greedy)
    assert node.value("alpha", number=2) == expected("alpha", 2)


def test_a_setup_is_told_at_once_when_a_function_never_leaves_the_gpu(
    start: StartNode, greedy: Path, tmp_path: Path
) -> None:
    app = tmp_path / "hot.py"
    app.write_text(
        "import dsfn, torch\n"
        "@dsfn.function(gpu=1, min_replicas=1)\n"
        "class Hot:\n"
        "    def setup(self) -> None:\n"
        "        self.weights = torch.ones(1 << 20)\n"
        "    def __call__(self) -> float:\n"
        "        return float(self.weights.sum())\n"
    )
    node = start(gpu=ONE_FITS, setup_timeout_s=60)
    node.deploy(app)
    assert node.value("hot") == 1 << 20
    with pytest.raises(DeployFailed, match="replicas of hot, which always keep their memory"):
        node.deploy(greedy)
    assert node.value("hot") == 1 << 20


SHORT = """
import dsfn
import torch
from pathlib import Path

TOLD = Path({told!r})


@dsfn.function(gpu=1)
class Short:
    def setup(self) -> None:
        if TOLD.exists():
            raise RuntimeError("set up again")
        self.weights = torch.ones(1 << 20)

    def after_restore(self) -> None:
        if TOLD.exists() and (words := TOLD.read_text()):
            TOLD.write_text("")
            raise RuntimeError(words)

    def __call__(self, words: str = "") -> float:
        if words:
            raise RuntimeError(words)
        return float(self.weights.sum())
"""


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory",
    ],
)
def test_too_little_for_what_libraries_take_is_nobodys_fault(
    start: StartNode, tmp_path: Path, words: str
) -> None:
    app, told = tmp_path / "short.py", tmp_path / "told"
    app.write_text(SHORT.format(told=str(told)))
    node = start(gpu=ONE_FITS)
    node.deploy(app)
    answer = node.call("short", words=words)
    assert (answer.status_code, answer.json()["what"]) == (503, "device")
    (pid,) = node.pids("short")
    os.kill(pid, signal.SIGKILL)
    told.write_text(words)  # its next replica finds too little, the one after that enough
    assert node.value("short") == 1 << 20
    assert told.read_text() == ""
    assert node.describe("short")["snapshot"]["state"] == "published"


HOG = """
import os, sys, time
kept = os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR)
os.posix_fallocate(kept, 0, int(sys.argv[2]))
print("has it", flush=True)
time.sleep(600)
"""


@contextmanager
def foreign_process(memory: Path, size_bytes: int) -> Iterator[subprocess.Popen[bytes]]:
    """One that has taken so much of the memory, and keeps it until it is killed."""
    command = [sys.executable, "-c", HOG, str(memory), str(size_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"has it\n"
            yield process
        finally:
            process.kill()


def test_a_call_waits_while_a_foreign_process_has_the_memory(
    small_disk: Callable[[str], Path], start: StartNode
) -> None:
    memory = small_disk("40m")
    node = start(gpu={**ONE_FITS, "devices": [f"host:{memory}:0"]})
    node.deploy(APPS / "one_gpu.py")
    assert node.value("alpha", number=1) == expected("alpha", 1)
    node.park("alpha", "absent")
    eventually(lambda: free_bytes(node) == 40 * MIB, "all memory to be given back")
    with foreign_process(memory, 30 * MIB) as process, ThreadPoolExecutor(1) as thread:
        assert free_bytes(node) == 10 * MIB
        waiting = thread.submit(node.value, "alpha", number=2)
        with pytest.raises(TimeoutError):
            waiting.result(2)
        process.kill()
        assert waiting.result() == expected("alpha", 2)
    assert_no_traceback(node)
    eventually(lambda: disk_usage(memory).used == 0, "all memory to be free")


def test_memory_that_a_foreign_process_takes_in_the_last_moment_is_no_error(
    small_disk: Callable[[str], Path], start: StartNode
) -> None:
    memory = small_disk("200m")
    node = start(gpu={**ONE_FITS, "devices": [f"host:{memory}:0"]})
    node.deploy(APPS / "one_gpu.py")
    for number in range(3):
        assert node.value("alpha", number=number) == expected("alpha", number)
        node.park("alpha", "absent")
        eventually(lambda: node.memory()["mappings"] == 0, "it to go")
        # So much was free a moment ago that the node does not look again.
        with foreign_process(memory, 190 * MIB) as process, ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(node.value, "alpha", number=number)
            with pytest.raises(TimeoutError):
                waiting.result(1)
            process.kill()
            assert waiting.result() == expected("alpha", number)
    assert_no_traceback(node)


def free_bytes(node: LiveNode) -> int:
    return int(node.memory()["devices"][0]["free_bytes"])


def is_copying(node: LiveNode, count: int) -> bool:
    return bool(node.memory()["mappings"] == count)


def assert_no_traceback(node: LiveNode) -> None:
    assert node.stop() == 0, node.log
    assert "Traceback" not in node.log, node.log
