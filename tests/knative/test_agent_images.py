"""An agent makes images of what pods' processes are once they have imported what they need, and
pods go on from these; where there are none that fit they start as usual."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from deadlines import WITHIN_S, eventually
from live_agent import KEY, LiveAgent
from live_node import LiveNode
from live_pod import LivePod, StartPod, TestStore

from dsfn.knative.agent.imaging import make_images
from dsfn.knative.pod.images import FRONT, PROXY_PATIENCE_S, WORKERS, wait_for_proxy
from dsfn.runtime.libraries import LIBRARIES
from dsfn.snapshots.process.machine import is_known

pytestmark = pytest.mark.skipif(not is_known(), reason="images are for x86-64 and Linux")

SUM = sum(range(100_000))
MAKING_S = 120.0

StartOne = Callable[[], LivePod]


@pytest.fixture
def agent(tmp_path: Path, node: LiveNode, bucket: TestStore) -> Iterator[LiveAgent]:
    """One that is not started yet."""
    told = {"DSFN_LIBRARIES": ",".join(LIBRARIES)}
    agent = LiveAgent(tmp_path / "agent", bucket, node.url, told)
    yield agent
    if agent.process is not None:
        agent.kill()


@pytest.fixture
def start_one(start_pod: StartPod, agent: LiveAgent, bucket: TestStore) -> StartOne:
    """Starts a pod of the agent's with a snapshot, and torch."""
    return lambda: start_pod("weights", store=bucket, variables=agent.pods)


def test_a_pod_goes_on_from_the_images_of_its_nodes_agent(
    agent: LiveAgent, start_one: StartOne
) -> None:
    agent.start()
    images(agent)
    pod = start_one()
    answers(pod)
    assert is_of(pod.process.pid, FRONT)
    assert [is_of(each.pid, WORKERS) for each in fork_servers(pod)] == [True]
    # The kernel shows what they are.
    assert "dsfn.knative.pod.imaging" in psutil.Process(pod.process.pid).cmdline()
    assert pod.stop() == 0, pod.log
    assert pod.log == ""


@pytest.mark.parametrize("name", [WORKERS, FRONT])
def test_an_image_that_does_not_fit_costs_time_alone(
    agent: LiveAgent, start_one: StartOne, name: str
) -> None:
    agent.start()
    for each in images(agent):
        if each.name == name:
            os.truncate(each, 1000)
    pod = start_one()
    answers(pod)
    assert is_of(pod.process.pid, FRONT) == (name != FRONT)
    assert [is_of(each.pid, WORKERS) for each in fork_servers(pod)] == [name != WORKERS]
    assert pod.stop() == 0, pod.log


def test_a_function_with_an_environment_for_libraries_starts_as_usual(
    agent: LiveAgent, start_pod: StartPod, bucket: TestStore
) -> None:
    agent.start()
    images(agent)
    told = {**agent.pods, "OMP_NUM_THREADS": "1"}
    pod = start_pod("weights", store=bucket, variables=told)
    answers(pod)
    assert pod.log == ""  # nothing is wrong
    assert not is_of(pod.process.pid, FRONT)
    assert [is_of(each.pid, WORKERS) for each in fork_servers(pod)] == [False]
    assert pod.stop() == 0, pod.log


def test_a_pod_waits_for_queue_proxy_but_not_for_ever() -> None:
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))  # it refuses who connects before it listens
        told = {"DSFN_PROXY_PORT": str(proxy.getsockname()[1])}
        began_s = time.monotonic()
        wait_for_proxy(told)
        assert time.monotonic() - began_s >= PROXY_PATIENCE_S
        proxy.listen()
        wait_for_proxy(told)
        proxy.settimeout(WITHIN_S)
        proxy.accept()[0].close()
    wait_for_proxy({})  # there is none


def test_no_secret_of_the_platform_is_in_an_image(agent: LiveAgent, bucket: TestStore) -> None:
    agent.variables = {**agent.variables, "DSFN_API_KEY": KEY}
    secrets = {KEY, bucket.variables["AWS_SECRET_ACCESS_KEY"]}
    agent.start()
    for image in images(agent):
        content = image.read_bytes()
        assert not [each for each in secrets if each.encode() in content]
        assert image.stat().st_mode & 0o777 == 0o644  # pods have other users than the agent


def test_an_agent_that_ends_while_it_makes_images_leaves_nothing_for_long(
    agent: LiveAgent,
) -> None:
    agent.start()
    eventually(lambda: len(entries(agent)) > 1, "its making")
    agent.kill()
    eventually(lambda: not makers(agent), "its processes to end")
    agent.start()
    images(agent)
    assert entries(agent) == {"agent.sock", WORKERS, FRONT}
    # One that is to make none removes those that are there.
    assert agent.stop() == 0, agent.log
    agent.variables = {}
    agent.start()
    eventually(lambda: entries(agent) == {"agent.sock"}, "the images to go")


def test_making_an_image_that_takes_too_long_is_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def make() -> None:
        making = asyncio.create_task(make_images(tmp_path, LIBRARIES, limit_s=0.2))
        async with asyncio.timeout(WITHIN_S):
            while len(caplog.records) < 2:
                await asyncio.sleep(0.01)
        making.cancel()
        with suppress(asyncio.CancelledError):
            await making

    asyncio.run(make())
    assert sorted(each.getMessage() for each in caplog.records) == [
        f"Pods start a second later, without {name}: it takes more than 0.2 s."
        for name in (FRONT, WORKERS)
    ]
    assert not list(tmp_path.iterdir())
    assert not [each for each in psutil.process_iter() if str(tmp_path) in str(cmdline(each))]


def images(agent: LiveAgent) -> list[Path]:
    """Those of an agent that has just started, once they are made."""
    found = [agent.socket.parent / name for name in (WORKERS, FRONT)]
    eventually(lambda: all(each.exists() for each in found) or agent.log, "images", MAKING_S)
    assert agent.log == ""
    return found


def answers(pod: LivePod) -> None:
    answer = pod.call()
    assert answer.status_code == 200, answer.text
    assert answer.json()["sum"] == SUM


def is_of(pid: int, image: str) -> bool:
    """Whether a process has gone on from it: it has the image mapped."""
    return f"/{image}\n" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def fork_servers(pod: LivePod) -> list[psutil.Process]:
    """The pod's children that have children."""
    return [each for each in psutil.Process(pod.process.pid).children() if each.children()]


def entries(agent: LiveAgent) -> set[str]:
    return {each.name for each in agent.socket.parent.iterdir()}


def makers(agent: LiveAgent) -> list[psutil.Process]:
    """The processes that make its images."""
    words = str(agent.socket.parent)
    return [
        each
        for each in psutil.process_iter()
        if each.pid != getattr(agent.process, "pid", 0)
        and any(words in word for word in cmdline(each))
    ]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
