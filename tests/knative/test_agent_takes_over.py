"""Of two agents of a node one stands by until the other has ended, as in a roll-out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from deadlines import eventually
from live_agent import LiveAgent
from live_node import LiveNode
from live_pod import StartPod, TestStore

from dsfn.knative.agent.address import Endpoint, NodeSocket
from dsfn.knative.pod.agent import Agent

CALLERS = 4
ACCOUNTED_S = 30.0
# Longer than a pod without a connection is waited for.
LONG_S = 12.0


@pytest.fixture
def agents(tmp_path: Path, directory: TestStore, node: LiveNode) -> Iterator[list[LiveAgent]]:
    found = [LiveAgent(tmp_path / "agent", directory, node.url) for _ in range(2)]
    yield found
    for each in found:
        if each.is_running:
            each.kill()


def test_calls_go_on_while_one_takes_over_from_the_other(
    node: LiveNode, start_pod: StartPod, agents: list[LiveAgent]
) -> None:
    first, second = agents
    first.start()
    pod = start_pod("rest", variables={**first.pods, "DSFN_TENANT": "taken-over"})
    assert pod.call(seconds=0).status_code == 200
    with ThreadPoolExecutor(CALLERS) as clients:
        long = clients.submit(pod.call, seconds=LONG_S)
        second.stand_by()
        calls = [clients.submit(pod.call, seconds=0.05, number=n) for n in range(40)]
        eventually(calls[10].done, "some calls")
        assert first.stop() == 0, first.log
        answers = [each.result() for each in calls]
        assert long.result().status_code == 200
    assert [each.json() for each in answers] == list(range(40))
    assert pod.stop() == 0, pod.log

    def rows() -> list[str]:
        return [each.invocation_id for each in node.rows("rest") if each.tenant == "taken-over"]

    eventually(lambda: len(rows()) >= 42, "the rows", ACCOUNTED_S)
    assert len(set(rows())) == len(rows()) == 42
    assert node.row(long.result()).status == "succeeded"
    assert second.stop() == 0, second.log


def test_who_has_connected_to_the_one_that_stands_by_is_answered_in_its_turn(
    agents: list[LiveAgent],
) -> None:
    first, second = agents
    first.start()
    second.stand_by()
    with (
        closing(Agent(Endpoint("127.0.0.1", second.port), "pod", "")) as pod,
        ThreadPoolExecutor(1) as threads,
    ):
        reply = threads.submit(lambda: asyncio.run(pod.ask({"do": "hello"})))
        time.sleep(0.5)
        assert not reply.done()
        assert first.stop() == 0
        assert reply.result() == {}


def test_one_that_stands_by_can_be_stopped(agents: list[LiveAgent]) -> None:
    first, second = agents
    first.start()
    second.stand_by()
    assert second.stop() == 0, second.log
    with closing(Agent(NodeSocket(first.socket), "pod", "")) as pod:
        assert asyncio.run(pod.ask({"do": "hello"})) == {}


def test_one_follows_another_that_was_killed(agents: list[LiveAgent]) -> None:
    first, second = agents
    first.start()
    second.stand_by()
    first.kill()
    with closing(Agent(Endpoint("127.0.0.1", second.port), "pod", "")) as pod:
        assert asyncio.run(pod.ask({"do": "hello"})) == {}
