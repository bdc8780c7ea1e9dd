"""Whose doing it was that a call's connection to its pod broke, and who pays for it."""

from __future__ import annotations

import json
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from deadlines import eventually
from live_node import LiveNode
from live_pod import LivePod, StartPod
from ports import free_port
from proxy_beside import ProxyBeside, proxy_beside

from dsfn.billing.usage import Usage
from dsfn.knative.pod.platform import call_headers
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.invoke import new_call_id
from dsfn.runtime.model import Call

RUNS_S = 1.0
# A container is told to end at about the time at which the one beside it is.
BESIDE_S = 0.05


@dataclass(frozen=True, slots=True)
class Way:
    """By which a call comes to a pod. `by_control`: the control service makes it."""

    function: str
    body: str
    path: str = "/"
    by_control: bool = False


WAYS = {
    "the Service's URL": Way("rest", '{"seconds": 30}'),
    "a node's path": Way("rest", '{"seconds": 30}', path="/functions/rest"),
    "the control service": Way("rest", '{"seconds": 30}', by_control=True),
    "a stream": Way("trickle", '{"every_s": 0.1}'),
    "a stream that nobody reads": Way("count-up", '{"to": 1000000000}'),
    "a stream by the control service": Way("trickle", '{"every_s": 0.1}', by_control=True),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A call that its function has begun with, through a proxy that lives."""

    pod: LivePod
    proxy: ProxyBeside
    connection: socket.socket
    tenant: str

    def row(self, node: LiveNode) -> Usage:
        """The row that comes of it."""

        def found() -> list[Usage]:
            rows = [row for row in node.rows() if row.tenant == self.tenant]
            return [row for row in rows if row.status != "succeeded"]

        eventually(found, "the row of the call")
        (row,) = found()
        return row


@pytest.fixture
def key(node: LiveNode) -> str:
    return (node.data / "node.key").read_text(encoding="utf-8").strip()


@pytest.fixture
def under_way(start_pod: StartPod, way: Way, key: str) -> Iterator[UnderWay]:
    tenant, own_port = new_tenant(), free_port()
    told = {"DSFN_PROXY_PORT": str(own_port), "DSFN_API_KEY": key, "DSFN_TENANT": tenant}
    pod = start_pod(way.function, variables=told)
    if way.function == "rest":
        # What comes after this begins at once.
        assert pod.call(seconds=0).status_code == 200
    with (
        proxy_beside(pod.port, own_port) as proxy,
        begun(proxy.url, way, tenant, key) as connection,
    ):
        yield UnderWay(pod, proxy, connection, tenant)


def new_tenant() -> str:
    return f"tenant-{uuid.uuid4().hex[:8]}"


def begun(url: str, way: Way, tenant: str, key: str) -> socket.socket:
    headers = {"Host": "function", "Content-Type": "application/json"}
    if way.by_control:
        now_us = SystemClock().now_us()
        call = Call(new_call_id(now_us), way.function, b"", "application/json", tenant=tenant)
        headers |= call_headers(call, key)
    headers["Content-Length"] = str(len(way.body))
    head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    port = int(url.rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(f"POST {way.path} HTTP/1.1\r\n{head}\r\n{way.body}".encode())
    if way.function != "rest":
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    time.sleep(RUNS_S)
    return connection


def is_lost(row: Usage) -> bool:
    return (row.status, row.error, row.restore_us) == ("platform", "ReplicaLost", 0)


def test_a_caller_who_leaves_pays_for_what_ran(node: LiveNode, under_way: UnderWay) -> None:
    under_way.connection.close()
    row = under_way.row(node)
    assert (row.status, row.error) == ("cancelled", "CallCancelled")
    assert row.held_us > RUNS_S * 0.5e6
    assert under_way.pod.process.poll() is None


def test_a_connection_that_breaks_once_the_pod_is_told_to_end_is_the_platforms(
    node: LiveNode, under_way: UnderWay
) -> None:
    under_way.pod.process.send_signal(signal.SIGTERM)
    time.sleep(BESIDE_S)
    under_way.proxy.kill()
    assert is_lost(under_way.row(node))
    assert under_way.pod.wait() == 0, under_way.pod.log


def test_a_connection_that_breaks_before_the_pod_is_told_to_end_is_the_platforms(
    node: LiveNode, under_way: UnderWay
) -> None:
    under_way.proxy.kill()
    time.sleep(BESIDE_S)
    under_way.pod.process.send_signal(signal.SIGTERM)
    assert is_lost(under_way.row(node))
    assert under_way.pod.wait() == 0, under_way.pod.log


def test_a_queue_proxy_that_ends_alone_loses_its_calls_and_no_later_ones(
    node: LiveNode, start_pod: StartPod, key: str
) -> None:
    way, own_port = WAYS["the control service"], free_port()
    pod = start_pod("rest", variables={"DSFN_PROXY_PORT": str(own_port), "DSFN_API_KEY": key})
    assert pod.call(seconds=0).status_code == 200
    outcomes = []
    for is_killed in (True, False):
        tenant = new_tenant()
        with (
            proxy_beside(pod.port, own_port) as proxy,
            begun(proxy.url, way, tenant, key) as connection,
        ):
            if is_killed:
                proxy.kill()
            connection.close()
            outcomes.append(UnderWay(pod, proxy, connection, tenant).row(node).status)
    assert outcomes == ["platform", "cancelled"]


def test_of_the_calls_of_a_pod_each_is_told_apart(
    node: LiveNode, start_pod: StartPod, key: str
) -> None:
    """One by one, several of a pod, of which each is its own caller's."""
    own_port = free_port()
    told = {"DSFN_PROXY_PORT": str(own_port), "DSFN_API_KEY": key}
    pod, way = start_pod("rest", variables=told), WAYS["the control service"]
    assert pod.call(seconds=0).status_code == 200
    tenants = [new_tenant() for _ in range(2)]
    with proxy_beside(pod.port, own_port) as proxy:
        first, second = (begun(proxy.url, way, tenant, key) for tenant in tenants)
        first.close()
        left = UnderWay(pod, proxy, first, tenants[0]).row(node)
        proxy.kill()
        lost = UnderWay(pod, proxy, second, tenants[1]).row(node)
        second.close()
    assert (left.status, lost.status) == ("cancelled", "platform")
    bill = node.http.get("/bill", params={"by": "function"})
    assert lost.tenant not in json.dumps(bill.json())
