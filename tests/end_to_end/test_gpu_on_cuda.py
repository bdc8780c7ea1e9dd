"""A node on a real GPU: functions that do not fit together, and faults in the middle of restores.
The same as on the stand-in, where the driver is what may be wrong. Skipped where there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from apps import one_gpu, writing
from deadlines import eventually
from gpu_scenes import (
    check_a_function_on_two_gpus,
    check_that_workers_are_born_ready,
    gpu_bytes,
    gpu_processes,
)
from live_node import APPS, SHARED_MEMORY, LiveNode, left_in_shared_memory, start_node

if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU", allow_module_level=True)
pytest.importorskip("cuda.bindings", reason="needs the extra dsfn[cuda]")

pytestmark = pytest.mark.gpu

MIB = 1 << 20
GIB = 1 << 30
WEIGHTS_BYTES = 3 * GIB
# The weights of one function, and the contexts of a few workers, of the owner, of its heir, and of
# an owner that was killed, which the driver takes apart after the next one has begun.
ROOM_BYTES = WEIGHTS_BYTES + 4 * GIB
# What the driver keeps a little longer, or rounds.
SLACK_BYTES = 300 * MIB
# A context takes more than this wherever it was measured.
CONTEXT_BYTES = 300 * MIB

HOG = """
import sys, torch
kept = torch.empty(int(sys.argv[1]), dtype=torch.uint8, device="cuda")
print("has it", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cuda")


@pytest.fixture(scope="module")
def right(place: Path) -> dict[str, list[list[float]]]:
    """The answers of functions that were never parked, to 0, 1, ... 4."""
    answers = {}
    for name in ("alpha", "beta"):
        source = (
            "import json, two_large\n"
            f"print(json.dumps([two_large.{name.title()}(number) for number in range(5)]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", source],
            cwd=APPS,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        answers[name] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def node(place: Path, right: dict[str, list[list[float]]]) -> Iterator[LiveNode]:
    """A node on whose GPU one of the functions fits; what it leaves is looked at in the end."""
    before, used_bytes = set(SHARED_MEMORY.iterdir()), gpu_bytes("used")
    node = start(place)
    try:
        node.deploy(APPS / "two_large.py")
        yield node
        assert node.stop() == 0, node.log
        assert not node.processes()
        assert "Traceback" not in node.log, node.log
        assert not left_in_shared_memory(before)
        eventually(lambda: gpu_bytes("used") < used_bytes + SLACK_BYTES, "the GPU's memory")
    finally:
        node.end()


def start(place: Path) -> LiveNode:
    gpu = {
        "devices": ["cuda:0"],
        "arena": f"{8 * GIB}B",
        "reserve": f"{gpu_bytes('total') - ROOM_BYTES}B",
        "warm": 0,
    }
    return start_node(place, gpu=gpu, setup_timeout_s=120, queue_timeout_s=60)


def test_functions_that_do_not_fit_together_take_turns(
    node: LiveNode, right: dict[str, list[list[float]]]
) -> None:
    for number in range(5):
        for name in ("alpha", "beta"):
            assert node.value(name, number=number) == right[name][number]
    assert node.memory()["devices"][0]["resident_bytes"] < 2 * WEIGHTS_BYTES


@pytest.mark.parametrize("victim", ["worker", "owner"])
def test_what_is_killed_in_a_restore_is_replaced(
    node: LiveNode, right: dict[str, list[list[float]]], victim: str
) -> None:
    with restoring(node, "beta", 1) as call:
        (pid,) = node.pids("beta") if victim == "worker" else [node.memory()["pid"]]
        os.kill(pid, signal.SIGKILL)
        assert call.result().json() == right["beta"][1]
    for number, name in enumerate(("alpha", "beta")):
        assert node.value(name, number=number) == right[name][number]


def test_a_call_whose_weights_never_come_is_told_so(
    node: LiveNode, right: dict[str, list[list[float]]]
) -> None:
    assert node.describe("alpha")["snapshot"]["streams"]
    with restoring(node, "alpha", 1) as call:
        os.kill(node.memory()["pid"], signal.SIGKILL)
        answer = call.result()
    assert answer.status_code == 503, answer.text
    assert "its weights did not come" in answer.json()["detail"]
    assert node.value("alpha", number=3) == right["alpha"][3]


@pytest.mark.parametrize("victim", ["worker", "owner"])
def test_what_is_killed_while_it_waits_for_room_takes_none_with_it(
    node: LiveNode, right: dict[str, list[list[float]]], victim: str
) -> None:
    for name in ("alpha", "beta"):  # alpha is parked for beta
        assert node.value(name, number=0) == right[name][0]
    (waits,) = node.pids("alpha")
    with ThreadPoolExecutor(2) as threads:
        busy = threads.submit(node.value, "beta", number=1, seconds=2)
        eventually(lambda: node.states("beta") == ["busy"], "beta to run")
        waiting = threads.submit(node.value, "alpha", number=1)
        eventually(lambda: node.states("alpha") == ["starting"], "alpha to wait for room")
        os.kill(waits if victim == "worker" else node.memory()["pid"], signal.SIGKILL)
        assert busy.result() == right["beta"][1]
        assert waiting.result() == right["alpha"][1]
    for number, name in enumerate(("alpha", "beta") * 2):
        assert node.value(name, number=number) == right[name][number]


def test_an_owner_that_hangs_is_replaced(
    node: LiveNode, right: dict[str, list[list[float]]]
) -> None:
    pid = node.memory()["pid"]
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: f"process {pid}, is lost: it did not answer" in node.log, "its end")
    assert node.value("alpha", number=2) == right["alpha"][2]


def test_parks_that_race_restores_spoil_no_answer(
    node: LiveNode, right: dict[str, list[list[float]]]
) -> None:
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(node.value, "alpha", number=n % 5) for n in range(40)]
        while not all(call.done() for call in calls):
            node.park("alpha")
        assert [call.result() for call in calls] == [right["alpha"][n % 5] for n in range(40)]


def test_a_frozen_function_holds_nothing_of_the_gpu_and_answers_in_the_same_process(
    node: LiveNode, right: dict[str, list[list[float]]]
) -> None:
    assert node.value("alpha", number=1) == right["alpha"][1]
    node.park("alpha")
    (pid,) = node.pids("alpha")
    before_bytes = gpu_bytes("used")
    node.park("alpha", "frozen")
    assert node.states("alpha") == ["frozen"]
    eventually(lambda: gpu_bytes("used") <= before_bytes - CONTEXT_BYTES, "its context to go")
    assert pid not in gpu_processes()
    assert node.value("alpha", number=2) == right["alpha"][2]
    assert node.pids("alpha") == {pid}


def test_a_function_that_is_killed_while_it_is_frozen_is_replaced(
    node: LiveNode, right: dict[str, list[list[float]]]
) -> None:
    assert node.value("alpha", number=1) == right["alpha"][1]
    node.park("alpha", "frozen")
    assert node.states("alpha") == ["frozen"]
    (pid,) = node.pids("alpha")
    os.kill(pid, signal.SIGKILL)
    assert node.value("alpha", number=3) == right["alpha"][3]
    assert node.pids("alpha") != {pid}


def test_weights_in_the_gpus_memory_are_compared_with_those_captured(node: LiveNode) -> None:
    node.deploy(APPS / "writing.py")
    assert node.value("on-gpu") == writing.COUNT
    node.park("on-gpu")
    assert node.value("on-gpu") == writing.COUNT  # what is looked at came over the bus
    assert verified(node, "on-gpu") == 0
    assert node.value("on-gpu", spoil=True) == writing.COUNT + 1
    assert verified(node, "on-gpu") == 1
    assert "gpu:0 are not those that were captured" in node.log
    assert node.value("on-gpu") == writing.COUNT


def test_a_foreign_process_that_takes_the_memory_makes_a_call_wait(
    node: LiveNode, right: dict[str, list[list[float]]]
) -> None:
    assert node.value("beta", number=1) == right["beta"][1]
    node.park("beta")
    taken_bytes = gpu_bytes("free") - 2 * GIB  # less than what one function has
    with (
        subprocess.Popen(
            [sys.executable, "-c", HOG, str(taken_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as hog,
        ThreadPoolExecutor(1) as threads,
    ):
        assert hog.stdin is not None and hog.stdout is not None
        assert hog.stdout.readline() == b"has it\n"
        waiting = threads.submit(node.value, "beta", number=3)
        with pytest.raises(TimeoutError):
            waiting.result(2)
        hog.stdin.close()
        assert waiting.result() == right["beta"][3]


def test_a_node_that_is_killed_in_a_restore_leaves_no_memory_taken(
    node: LiveNode, right: dict[str, list[list[float]]]
) -> None:
    node.park("alpha", "absent")
    node.park("beta", "absent")
    assert node.value("alpha", number=1) == right["alpha"][1]
    node.park("alpha")
    call = node.begin("alpha", number=2)
    eventually(lambda: node.memory()["mappings"] == 1, "the restore to begin")
    before_bytes = gpu_bytes("used")
    node.kill()  # and waits until none of its processes is left
    call.close()
    eventually(lambda: gpu_bytes("used") < before_bytes - GIB, "the GPU's memory")
    again = start(node.place)
    node.process, node.http, node.url = again.process, again.http, again.url
    node.mark = again.mark
    assert node.value("alpha", number=2) == right["alpha"][2]


def test_a_spare_worker_takes_over_a_function_that_is_absent(tmp_path: Path) -> None:
    right = pytest.approx(one_gpu.answer(one_gpu.layers(), 1), abs=2e-3)  # of the CPU
    with small_node(tmp_path, ["cuda:0"], warm=1) as node:
        node.deploy(APPS / "one_gpu.py")
        assert node.value("alpha", number=1) == right
        (first,) = node.pids("alpha")
        node.park("alpha", "absent")
        eventually(lambda: node.memory()["warm"] == [1], "a spare worker")
        eventually(lambda: first not in node.processes(), "the first to end")
        there = node.processes()
        assert node.value("alpha", number=1) == right
        assert node.pids("alpha") <= there


@pytest.mark.parametrize("warm", [0, 1])
def test_a_worker_is_born_with_what_every_worker_on_a_gpu_needs(tmp_path: Path, warm: int) -> None:
    with small_node(tmp_path, ["cuda:0"], warm) as node:
        check_that_workers_are_born_ready(node)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs")
def test_a_function_on_two_gpus_has_its_weights_on_each_however_it_comes_back(
    tmp_path: Path,
) -> None:
    with small_node(tmp_path, ["cuda:0", "cuda:1"], warm=0) as node:
        check_a_function_on_two_gpus(node)


@contextmanager
def small_node(place: Path, devices: Sequence[str], warm: int) -> Iterator[LiveNode]:
    """A node for small functions. Of workers that nobody uses it has so many, with a context, for
    each device."""
    gpu = {"devices": devices, "arena": f"{256 * MIB}B", "warm": warm}
    node = start_node(place, gpu=gpu, setup_timeout_s=120, queue_timeout_s=60, spares=0)
    try:
        yield node
        assert node.stop() == 0, node.log
        assert not node.processes()
        assert "Traceback" not in node.log, node.log
    finally:
        node.end()


@contextmanager
def restoring(node: LiveNode, name: str, number: float) -> Iterator[Future[httpx.Response]]:
    """A call of a function whose weights are on their way."""
    node.value(name, number=0)
    node.park(name)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(node.call, name, number=number)
        eventually(lambda: node.memory()["mappings"] == 1 or call.done(), "the restore to begin")
        yield call


def verified(node: LiveNode, function: str) -> int:
    """The exit code of the command that compares what its replicas have in memory."""
    return subprocess.run(
        [sys.executable, "-m", "dsfn", "snapshot", "verify", function, "--replicas"],
        env={**os.environ, "DSFN_URL": node.url},
        timeout=60,
        check=False,
    ).returncode
