"""Two depths of zero: a pod that nobody calls gives its GPU memory back and stays.

The GPU is a stand-in, whose memory is a tmpfs that pods share as they share a GPU: what is taken
there, by whomever, is seen from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import disk_usage

import httpx
import psutil
import pytest
from deadlines import eventually
from gpu_scenes import MIB, stand_in
from live_agent import LiveAgent
from live_node import LiveNode, start_node
from live_pod import LivePod, StartPod, TestStore, launch_pod, pod_variables, revision_of

from dsfn.billing.usage import Usage
from dsfn.knative.manifests.resources import resources
from dsfn.runtime.config import GpuSettings

APPS = Path(__file__).parent / "apps"
# Of the weights in apps/parking.py, 4 bytes each.
COUNT = 4 * MIB
WEIGHTS_BYTES = 4 * COUNT
# What a pod leaves of a GPU to others, and what it takes a process to need beside its weights.
BESIDE_BYTES = GpuSettings().reserve_bytes + GpuSettings().context_bytes
StartOne = Callable[[Path], LivePod]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """A node with a GPU, on which the snapshot is made; it is the pods' control service, too."""
    node = start_node(tmp_path_factory.mktemp("control"), gpu=stand_in(64 * MIB))
    try:
        described = node.deploy(APPS / "parking.py")["sleeper"]
        assert described["snapshot"], described["snapshot_reason"]
        yield node
        assert node.stop() == 0, node.log
    finally:
        node.end()


@pytest.fixture
def agent(tmp_path: Path, node: LiveNode, directory: TestStore) -> Iterator[LiveAgent]:
    agent = LiveAgent(tmp_path / "agent", directory, node.url)
    agent.start()
    yield agent
    agent.kill()


@pytest.fixture
def start_one(start_pod: StartPod, agent: LiveAgent) -> StartOne:
    """Starts another pod of the agent's, whose GPU is this directory."""

    def start(memory: Path) -> LivePod:
        return start_pod("sleeper", variables={**agent.pods, "DSFN_GPUS": f"host:{memory}:0"})

    return start


def answer_of(pod: LivePod, number: int) -> httpx.Response:
    """A right answer."""
    answer = pod.call(number=number)
    assert answer.status_code == 200, answer.text
    assert answer.json()["sum"] == number * sum(range(COUNT))
    return answer


def row_of(node: LiveNode, answer: httpx.Response) -> Usage:
    """Its row, which comes to the ledger by way of the agent."""
    id_ = answer.headers["dsfn-invocation-id"]
    eventually(lambda: node.rows_of(id_), "the row of a call")
    return node.row(answer)


def is_empty(memory: Path) -> bool:
    return disk_usage(memory).used == 0


def family_of(pod: LivePod) -> list[psutil.Process]:
    """The processes of a pod."""
    program = psutil.Process(pod.process.pid)
    return [program, *program.children(recursive=True)]


def phases_ms(answer: httpx.Response) -> dict[str, float]:
    """What its Server-Timing says."""
    pieces = (each.strip().split(";dur=") for each in answer.headers["server-timing"].split(","))
    return {name: float(duration) for name, duration in pieces}


def test_a_pod_gives_its_gpu_memory_back_and_its_process_stays(
    small_disk: Callable[[str], Path], node: LiveNode, start_one: StartOne
) -> None:
    memory = small_disk("8g")  # so large that a second owner and more contexts would fit
    pod = start_one(memory)
    answers = [answer_of(pod, 3)]
    requested_bytes = int(resources(revision_of(node, "sleeper"))["requests"]["memory"])
    for number in (5, 7):
        assert disk_usage(memory).used >= WEIGHTS_BYTES
        eventually(lambda: is_empty(memory), "it to park")
        processes = family_of(pod)
        assert answers[0].json()["pid"] in {each.pid for each in processes}
        # Without its weights the pod is small: what it has asked for holds them, too.
        assert sum(each.memory_full_info().pss for each in processes) < requested_bytes
        back = answer_of(pod, number)
        assert back.json()["pid"] == answers[0].json()["pid"]
        took_ms = phases_ms(back)
        assert took_ms["restore"] > 0 and took_ms["start"] == 0
        answers.append(back)
    owners = [each for each in family_of(pod) if "dsfn.snapshots.owner" in each.cmdline()]
    assert len(owners) == 1
    assert pod.stop() == 0, pod.log
    assert "Traceback" not in pod.log, pod.log
    rows = [row_of(node, answer) for answer in answers]
    assert all(row.restore_us > 0 for row in rows[1:])
    # Nobody holds the GPU, and nobody pays for it, while the pod is parked.
    assert len({row.lease for row in rows}) == len(rows)


def test_what_a_pod_gave_back_another_one_has(
    small_disk: Callable[[str], Path], start_one: StartOne
) -> None:
    # Room for the weights of one of them.
    memory = small_disk(f"{(BESIDE_BYTES + 3 * WEIGHTS_BYTES // 2) >> 10}k")
    pods = [start_one(memory)]
    answer_of(pods[0], 1)
    pods.append(start_one(memory))
    for number in range(2, 6):
        # At first one that starts, which waits until the other one has parked, then one that does.
        answer_of(pods[(number + 1) % 2], number)
        assert WEIGHTS_BYTES <= disk_usage(memory).used < 2 * WEIGHTS_BYTES
    assert [pod.stop() for pod in pods] == [0, 0]
    assert is_empty(memory)


def test_devices_that_are_not_there_are_told(
    tmp_path: Path, node: LiveNode, directory: TestStore
) -> None:
    told = pod_variables(directory, directory.publish(node, "sleeper").digest, node.url)
    del told["DSFN_PROVED"]
    pod = launch_pod(tmp_path / "pod", {**told, "DSFN_GPUS": "tpu:0"}, wait=False)
    try:
        assert pod.wait() == 1
        assert "There is no device 'tpu:0'." in pod.log
    finally:
        pod.end()
