"""Two depths of zero on a real GPU: a pod that nobody calls gives its GPU memory back and stays.

The same as on the stand-in, where the driver is what may be wrong, without images of processes and
with them. Skipped where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from deadlines import eventually
from gpu_scenes import MIB, gpu_bytes
from live_agent import LiveAgent
from live_node import LiveNode, start_node
from live_pod import LivePod, TestStore, launch_pod, pod_variables

from dsfn.knative.pod.document import Publication
from dsfn.knative.pod.images import FRONT, WORKERS

if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU", allow_module_level=True)
pytest.importorskip("cuda.bindings", reason="needs the extra dsfn[cuda]")

pytestmark = pytest.mark.gpu

APPS = Path(__file__).parent / "apps"
# Of the weights in apps/parking_cuda.py, 4 bytes each.
COUNT = 128 * MIB
WEIGHTS_BYTES = 4 * COUNT
# What the driver keeps a little longer, or rounds.
SLACK_BYTES = 128 * MIB
# Both import all that there is, with the lowest priority.
IMAGES_TIMEOUT_S = 200.0


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, directory: TestStore) -> Publication:
    """A snapshot that was made on the GPU, by a node that has gone."""
    used_bytes = gpu_bytes("used")
    gpu = {"devices": ["cuda:0"], "arena": f"{2 * WEIGHTS_BYTES}B", "warm": 0}
    node = start_node(tmp_path_factory.mktemp("making"), gpu=gpu, setup_timeout_s=120)
    try:
        described = node.deploy(APPS / "parking_cuda.py")["sleeper"]
        assert described["snapshot"], described["snapshot_reason"]
        published = directory.publish(node, "sleeper")
        assert node.stop() == 0, node.log
    finally:
        node.end()
    eventually(lambda: gpu_bytes("used") < used_bytes + SLACK_BYTES, "the node's GPU memory")
    return published


@pytest.fixture(params=["by themselves", "from images"])
def pod(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    node: LiveNode,
    directory: TestStore,
    published: Publication,
) -> Iterator[LivePod]:
    """A pod with the GPU, whose processes have begun so."""
    libraries = ",".join(published.libraries)
    agent = LiveAgent(tmp_path / "agent", directory, node.url, {"DSFN_LIBRARIES": libraries})
    told = {
        **pod_variables(directory, published.digest, node.url),
        "DSFN_LIBRARIES": libraries,
        "DSFN_GPUS": "cuda:0",
    }
    if request.param == "from images":
        agent.start()
        images = [agent.socket.with_name(name) for name in (WORKERS, FRONT)]
        eventually(lambda: all(each.exists() for each in images), "images", IMAGES_TIMEOUT_S)
        told |= agent.pods
    try:
        pod = launch_pod(tmp_path / "pod", told)
        try:
            answer_of(pod, 1)  # until then they may be on their way
            assert begun_from_images(pod) == (request.param == "from images")
            yield pod
        finally:
            pod.end()
    finally:
        if agent.process is not None:
            agent.kill()


def test_a_pod_gives_its_gpu_memory_back_and_its_process_stays(pod: LivePod) -> None:
    first = answer_of(pod, 3)
    assert first["made_by"] != first["pid"]  # it came from the snapshot
    for number in (5, 7):
        busy_bytes = gpu_bytes("used")
        assert busy_bytes >= WEIGHTS_BYTES
        idle_bytes = busy_bytes - WEIGHTS_BYTES + SLACK_BYTES
        wait_until_less_than(idle_bytes)
        back = answer_of(pod, number)
        assert (back["pid"], back["made_by"]) == (first["pid"], first["made_by"])
        assert gpu_bytes("used") > idle_bytes
    assert pod.stop() == 0, pod.log
    assert "Traceback" not in pod.log, pod.log


def answer_of(pod: LivePod, number: int) -> dict[str, object]:
    """A right answer, from weights that were restored."""
    answer = pod.call(number=number)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    assert (found["device"], found["sum"]) == ("cuda", number * COUNT * (COUNT - 1) // 2)
    assert "restore;dur=" in answer.headers["server-timing"]
    return found


def wait_until_less_than(size_bytes: int) -> None:
    """Returns once less of the GPU's memory is in use."""
    eventually(lambda: gpu_bytes("used") < size_bytes, "it to park")


def begun_from_images(pod: LivePod) -> bool:
    """Whether its processes are what an image's were started as; its front and its fork server are
    so, or both are not."""
    program = psutil.Process(pod.process.pid)
    shown = [" ".join(each.cmdline()) for each in (program, *program.children())]
    begun = [each for each in shown if "dsfn.knative.pod" in each or "dsfn.runtime.worker" in each]
    (is_from_image,) = {"imaging" in each for each in begun}
    assert len(begun) == 2
    return is_from_image
