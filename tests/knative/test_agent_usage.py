"""Usage that the agent keeps on the node's disk comes to the books once, whoever is killed."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest
from deadlines import eventually
from faulty_proxy import Fault, FaultyProxy, faulty_proxy
from live_agent import LiveAgent
from live_node import LiveNode
from live_pod import LivePod, StartPod, TestStore

from dsfn.billing.usage import Usage
from dsfn.functions.errors import MalformedBody, StoreUnavailable
from dsfn.knative.agent.address import Endpoint, NodeSocket
from dsfn.knative.agent.wire import LENGTH, MAX_PACKET_BYTES, encode, framed
from dsfn.knative.pod.agent import Agent

REFUSED = Fault("refused")
KILLS = 20
SHORT = "takes no connections for now: Too many open files."
# Beyond the time after which a pod without a connection has ended.
ACCOUNTED_S = 30.0


@pytest.fixture
def proxy(node: LiveNode) -> Iterator[FaultyProxy]:
    port = httpx.URL(node.url).port
    assert port is not None
    with faulty_proxy(port) as proxy:
        yield proxy


@pytest.fixture(params=["socket", "port"])
def agent(
    tmp_path: Path, directory: TestStore, proxy: FaultyProxy, request: pytest.FixtureRequest
) -> Iterator[LiveAgent]:
    by_port = request.param == "port"
    agent = LiveAgent(tmp_path / "agent", directory, proxy.url, by_port=by_port)
    agent.start()
    yield agent
    agent.kill()


def tenant_of(agent: LiveAgent, name: str) -> str:
    """All tests have one node: a tenant for each way to ask the agent."""
    return f"{name}-by-{'port' if agent.by_port else 'socket'}"


def rows_of_tenant(node: LiveNode, agent: LiveAgent, name: str) -> list[Usage]:
    tenant = tenant_of(agent, name)
    return [row for row in node.rows("rest") if row.tenant == tenant]


def pod_of(start_pod: StartPod, agent: LiveAgent, name: str) -> LivePod:
    return start_pod("rest", variables={**agent.pods, "DSFN_TENANT": tenant_of(agent, name)})


def connected(agent: LiveAgent) -> socket.socket:
    """A connection that says nothing."""
    if agent.by_port:
        return socket.create_connection(("127.0.0.1", agent.port), 5)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(str(agent.socket))
    return connection


def test_calls_are_answered_while_the_control_service_is_away(
    node: LiveNode, start_pod: StartPod, agent: LiveAgent, proxy: FaultyProxy
) -> None:
    pod = pod_of(start_pod, agent, "away")
    proxy.inject(REFUSED, "POST", "/usage", times=10_000)
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(pod.call, seconds=0, number=n) for n in range(40)]
    assert [each.result().json() for each in answers] == list(range(40))
    assert pod.stop() == 0, pod.log
    assert not rows_of_tenant(node, agent, "away")
    agent.kill()
    agent.start()
    proxy.heal()
    eventually(lambda: len(rows_of_tenant(node, agent, "away")) == 40, "the rows", ACCOUNTED_S)
    for each in answers:
        answer = each.result()
        assert node.row(answer).held_us == int(answer.headers["dsfn-held-us"])
    (lease,) = {row.lease for row in rows_of_tenant(node, agent, "away")}
    eventually(lambda: any(i.closes for i in node.intervals(lease)), "the lease to be closed")
    intervals = node.intervals(lease)
    held_us = sum(each.duration_us for each in intervals if each.kind == "held")
    others_us = sum(each.duration_us for each in intervals if each.kind != "held")
    assert held_us == others_us + sum(row.held_us for row in rows_of_tenant(node, agent, "away"))


def test_of_twenty_kills_in_mid_call_no_row_is_lost_and_none_is_there_twice(
    node: LiveNode, start_pod: StartPod, agent: LiveAgent
) -> None:
    answered: list[httpx.Response] = []
    killed = 0
    pod = pod_of(start_pod, agent, "kills")
    with ThreadPoolExecutor(4) as clients:
        for number in range(KILLS):
            pod.call(seconds=0)  # the replica is there
            calls = [clients.submit(pod.call, seconds=0.3, number=n) for n in range(4)]
            time.sleep(0.15)
            if number % 4 == 3:
                pod.process.kill()
                for call in calls:
                    with pytest.raises(httpx.TransportError):
                        call.result()
                killed += len(calls)
                pod = pod_of(start_pod, agent, "kills")
            else:
                agent.kill()
                agent.start()
                answers = [call.result() for call in calls]
                assert [each.json() for each in answers] == list(range(4))
                answered += answers
    total = len(answered) + killed + KILLS
    eventually(lambda: len(rows_of_tenant(node, agent, "kills")) >= total, "the rows", ACCOUNTED_S)
    rows = rows_of_tenant(node, agent, "kills")
    assert len(rows) == len({row.invocation_id for row in rows}) == total
    for each in answered:
        assert node.row(each).held_us == int(each.headers["dsfn-held-us"])
    faults = [row for row in rows if row.status == "platform"]
    assert len(faults) == killed
    for row in faults:
        assert (row.error, row.restore_us) == ("ReplicaLost", 0)
        assert 100_000 < row.held_us < 5_000_000


def test_a_long_call_goes_on_over_an_agent_that_starts_anew(
    node: LiveNode, start_pod: StartPod, agent: LiveAgent
) -> None:
    pod = pod_of(start_pod, agent, "long")
    with ThreadPoolExecutor(1) as clients:
        call = clients.submit(pod.call, seconds=14)
        time.sleep(1)
        agent.kill()
        agent.start()
        answer = call.result()
    assert answer.status_code == 200
    eventually(lambda: len(rows_of_tenant(node, agent, "long")) == 1, "the row", ACCOUNTED_S)
    assert node.row(answer).status == "succeeded"


def test_a_full_outbox_refuses_calls_and_loses_none(
    tmp_path: Path,
    node: LiveNode,
    start_pod: StartPod,
    directory: TestStore,
    proxy: FaultyProxy,
) -> None:
    limit = {"DSFN_OUTBOX_ROWS": "12"}
    agent = LiveAgent(tmp_path / "small", directory, proxy.url, limit)
    agent.start()
    try:
        pod = pod_of(start_pod, agent, "full")
        proxy.inject(REFUSED, "POST", "/usage", times=10_000)
        answers = [pod.call(seconds=0) for _ in range(20)]
        done = [each for each in answers if each.status_code == 200]
        refused = [each for each in answers if each.status_code != 200]
        assert done and refused
        for each in refused:
            assert (each.status_code, each.headers["retry-after"]) == (503, "10")
            assert "no room left for usage" in each.json()["detail"]
        proxy.heal()
        eventually(lambda: pod.call(seconds=0).status_code == 200, "room", ACCOUNTED_S)
        eventually(
            lambda: len(rows_of_tenant(node, agent, "full")) == len(done) + 1,
            "the rows",
            ACCOUNTED_S,
        )
        assert {row.status for row in rows_of_tenant(node, agent, "full")} == {"succeeded"}
    finally:
        agent.kill()


def test_a_repeated_key_is_billed_once_by_two_pods_of_a_node(
    node: LiveNode, start_pod: StartPod, agent: LiveAgent
) -> None:
    one, two = pod_of(start_pod, agent, "keys"), pod_of(start_pod, agent, "keys")
    for pod in (one, one, two):
        answer = pod.http.post("/", json={"seconds": 0.05}, headers={"idempotency-key": "agents"})
        assert answer.status_code == 200
    assert (one.stop(), two.stop()) == (0, 0)
    eventually(lambda: len(rows_of_tenant(node, agent, "keys")) == 1, "the row")
    assert "The ledger refuses row" in agent.log


def test_without_the_platforms_key_the_agent_does_nothing(
    tmp_path: Path, directory: TestStore, proxy: FaultyProxy
) -> None:
    agent = LiveAgent(tmp_path / "keyed", directory, proxy.url, {"DSFN_API_KEY": "right"})
    agent.start()
    try:
        for address in (NodeSocket(agent.socket), Endpoint("127.0.0.1", agent.port)):
            with closing(Agent(address, "pod", "right")) as known:
                asyncio.run(known.ask({"do": "hello"}))
            with (
                closing(Agent(address, "pod", "wrong")) as unknown,
                pytest.raises(StoreUnavailable, match="wants the key"),
            ):
                asyncio.run(unknown.ask({"do": "hello"}))
    finally:
        agent.kill()


def test_over_the_port_come_no_files(agent: LiveAgent) -> None:
    with (
        closing(Agent(Endpoint("127.0.0.1", agent.port), "pod", "")) as pod,
        pytest.raises(MalformedBody, match="no file comes this way"),
    ):
        asyncio.run(pod.ask({"do": "snapshot", "digest": "0" * 64, "again": False}))


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(LENGTH.pack(MAX_PACKET_BYTES + 1), id="a packet that is too long"),
        pytest.param(LENGTH.pack(2**32 - 1), id="the longest there can be"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
    ],
)
def test_who_speaks_otherwise_is_cut_off_and_others_are_served(
    agent: LiveAgent, sent: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", agent.port), 5) as connection:
        connection.sendall(sent)
        with suppress(ConnectionResetError):  # it has not read all of it
            assert connection.recv(1) == b""
    with closing(Agent(Endpoint("127.0.0.1", agent.port), "pod", "")) as pod:
        asyncio.run(pod.ask({"do": "hello"}))


def test_a_request_comes_in_pieces(agent: LiveAgent) -> None:
    packet = framed(encode({"do": "hello", "pod": "slow", "key": ""}))
    with socket.create_connection(("127.0.0.1", agent.port), 5) as connection:
        for each in packet:
            connection.send(bytes([each]))
            time.sleep(0.001)
        assert connection.recv(100) == framed(encode({}))


def test_who_says_something_else_first_holds_no_connection(agent: LiveAgent) -> None:
    with socket.create_connection(("127.0.0.1", agent.port), 5) as connection:
        connection.sendall(framed(encode({"do": "hello"})))
        head = connection.recv(LENGTH.size, socket.MSG_WAITALL)
        (size,) = LENGTH.unpack(head)
        assert b"error" in connection.recv(size, socket.MSG_WAITALL)
        assert connection.recv(1) == b""


def test_who_never_says_who_it_is_is_cut_off(agent: LiveAgent) -> None:
    with socket.create_connection(("127.0.0.1", agent.port), 60) as connection:
        assert connection.recv(1) == b""


def test_more_connections_than_descriptors_do_not_end_it(
    start_pod: StartPod, agent: LiveAgent
) -> None:
    assert agent.process is not None
    held = len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))
    _, hard = resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (held + 20, hard))
    with ExitStack() as crowd:
        for _ in range(40):
            crowd.enter_context(closing(connected(agent)))
        eventually(lambda: SHORT in agent.log, "the agent to have no descriptors")
    pod = pod_of(start_pod, agent, "crowd")
    assert pod.call(seconds=0).status_code == 200
    assert agent.process.poll() is None
    assert agent.log.count(SHORT) == 1


def test_a_full_disk_refuses_calls_until_there_is_room(
    node: LiveNode, start_pod: StartPod, agent: LiveAgent
) -> None:
    pod = pod_of(start_pod, agent, "disk")
    assert pod.call(seconds=0).status_code == 200
    assert agent.process is not None
    no_limit = resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (0, -1))
    answer = pod.call(seconds=0)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, no_limit)
    assert pod.call(seconds=0).status_code == 200
    eventually(lambda: len(rows_of_tenant(node, agent, "disk")) == 2, "the rows", ACCOUNTED_S)
