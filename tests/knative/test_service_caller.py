"""A call through a function's Service comes to what it comes to on a node, and is billed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from deadlines import eventually
from live_node import LiveNode
from live_pod import LivePod, StartPod, revision_of

from dsfn.billing.rates import RateCard
from dsfn.billing.usage import Usage
from dsfn.functions.errors import BudgetExceeded, DsfnError, HandlerRaised, ReplicaLost, Unavailable
from dsfn.knative.control.caller import ServiceCaller, open_client
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.gateway.metrics import Metrics
from dsfn.runtime.invoke import new_call_id
from dsfn.runtime.model import Answer, Call, Revision
from dsfn.runtime.timelines import Timelines


class Boundless:
    """A `Purse` that nothing is kept in."""

    def reserve(self, call: Call, revision: Revision) -> Call:
        return call

    def exceeded(self, call: Call) -> BudgetExceeded | None:
        return None

    def release(self, call_id: str) -> None:
        pass


@asynccontextmanager
async def caller_of(url: str, key: str) -> AsyncIterator[ServiceCaller]:
    async def address(revision: Revision) -> str:
        return url

    async with open_client() as client:
        yield ServiceCaller(
            client,
            address,
            key,
            Boundless(),
            lambda: RateCard(currency="EUR"),
            Metrics(),
            Timelines(),
            SystemClock(),
        )


def call_of(function: str, body: bytes, content_type: str = "application/json") -> Call:
    now_us = SystemClock().now_us()
    return Call(new_call_id(now_us), function, body, content_type, tenant="acme")


async def made(
    pod_url: str, key: str, call: Call, revision: Revision, whole: bool = False
) -> tuple[Answer, Usage, list[Usage], bytes]:
    rows: list[Usage] = []

    async def post(row: Usage) -> None:
        rows.append(row)

    async with caller_of(pod_url, key) as caller:
        answer, row = await caller.call(call, revision, post, whole)
        body = answer.body
        if answer.stream is not None:
            body = b"".join([chunk async for chunk in answer.stream])
        return answer, row, rows, body


@pytest.fixture
def key(node: LiveNode) -> str:
    return (node.data / "node.key").read_text(encoding="utf-8").strip()


def start(start_pod: StartPod, key: str, function: str) -> tuple[LivePod, str]:
    pod = start_pod(function, variables={"DSFN_API_KEY": key})
    return pod, str(pod.http.base_url)


def test_an_answer_has_its_row_its_charge_and_its_phases(
    node: LiveNode, start_pod: StartPod, key: str
) -> None:
    _, url = start(start_pod, key, "shout")
    call = call_of("shout", b"hello", "text/plain")
    answer, row, posted, body = asyncio.run(made(url, key, call, revision_of(node, "shout")))
    assert (body, answer.content_type) == (b"HELLO", "text/plain; charset=utf-8")
    assert (answer.call_id, row.tenant, posted) == (call.id, "acme", [])
    assert node.rows_of(call.id) == [row]
    assert (answer.charge.held_us, answer.charge.busy_us) == (row.held_us, row.busy_us)
    assert answer.phases.execute_us > 0 and answer.phases.total_us >= answer.phases.execute_us


@pytest.mark.parametrize("whole", [False, True])
def test_a_stream_comes_as_it_is_or_whole(
    node: LiveNode, start_pod: StartPod, key: str, whole: bool
) -> None:
    _, url = start(start_pod, key, "count-up")
    call = call_of("count-up", b'{"to": 4}')
    revision = revision_of(node, "count-up")
    answer, row, _, body = asyncio.run(made(url, key, call, revision, whole))
    there = node.call("count-up", to=4).content
    assert body == there.partition(b"event: usage")[0]
    (billed,) = node.rows_of(call.id)
    if whole:
        assert row == billed
    else:
        assert answer.settled is not None
        assert answer.settled()["held_us"] == billed.held_us


def test_a_failure_is_its_own_class_and_tells_its_row(
    node: LiveNode, start_pod: StartPod, key: str
) -> None:
    _, url = start(start_pod, key, "fail")
    call, revision, rows = call_of("fail", b'{"how": "luck"}'), revision_of(node, "fail"), []

    async def post(row: Usage) -> None:
        rows.append(row)

    async def fail() -> None:
        async with caller_of(url, key) as caller:
            await caller.call(call, revision, post)

    with pytest.raises(HandlerRaised, match="no more luck") as raised:
        asyncio.run(fail())
    there = node.call("fail", how="luck").json()
    assert raised.value.fields["exception"] == there["exception"] == "ValueError"
    assert node.rows_of(call.id) == rows
    assert "charge" in raised.value.fields and "instance" not in raised.value.fields


def test_a_pod_that_goes_away_under_a_call_is_told_so(
    node: LiveNode, start_pod: StartPod, key: str
) -> None:
    pod, url = start(start_pod, key, "rest")
    revision = revision_of(node, "rest")

    async def killed() -> None:
        under_way = asyncio.create_task(
            made(url, key, call_of("rest", b'{"seconds": 30}'), revision)
        )
        await asyncio.sleep(3)
        pod.process.kill()
        await under_way

    with pytest.raises(ReplicaLost, match="broke"):
        asyncio.run(killed())
    with pytest.raises(Unavailable, match="cannot be reached"):
        asyncio.run(made(url, key, call_of("rest", b'{"seconds": 0}'), revision))


@asynccontextmanager
async def answering(head: str, body: str) -> AsyncIterator[str]:
    """What answers each request so: Knative, where it has no pod's answer to pass on."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        told = f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close"
        writer.write(f"HTTP/1.1 {head}\r\n{told}\r\n\r\n{body}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


ENVOY = "upstream connect error or disconnect/reset before headers. reset reason: "


@pytest.mark.parametrize(
    ("head", "body", "is_lost"),
    [
        ("502 Bad Gateway", "EOF", True),
        ("502 Bad Gateway", "read tcp 10.0.0.1:1->10.0.0.2:8012: connection reset by peer\n", True),
        ("502 Bad Gateway", "", True),
        ("502 Bad Gateway", "dial tcp 10.0.0.2:8012: connect: connection refused\n", False),
        ("503 Service Unavailable", ENVOY + "connection termination", True),
        ("503 Service Unavailable", ENVOY + "connection failure", False),
        ("503 Service Unavailable", "pending request queue full\n", False),
        ("504 Gateway Timeout", "activator request timeout", False),
    ],
)
def test_what_knative_says_of_a_call_is_told_as_what_became_of_it(
    node: LiveNode, head: str, body: str, is_lost: bool
) -> None:
    revision, rows = revision_of(node, "rest"), []

    async def post(row: Usage) -> None:
        rows.append(row)

    async def fail() -> None:
        async with answering(head, body) as url, caller_of(url, "key") as caller:
            await caller.call(call_of("rest", b'{"seconds": 0}'), revision, post)

    with pytest.raises(Unavailable) as raised:
        asyncio.run(fail())
    assert isinstance(raised.value, ReplicaLost) == is_lost
    assert (body.strip() or head[:3]) in raised.value.message
    assert raised.value.fields["retry_after_s"] == 1
    assert rows == []  # it is the pod's, or the agent's, to post


def test_a_call_that_is_called_off_ends_in_the_pod(
    node: LiveNode, start_pod: StartPod, key: str
) -> None:
    pod, url = start(start_pod, key, "rest")
    revision, call = revision_of(node, "rest"), call_of("rest", b'{"seconds": 30}')
    pod.call(seconds=0)

    async def called_off() -> None:
        async with asyncio.timeout(1):
            await made(url, key, call, revision)

    with pytest.raises(TimeoutError):
        asyncio.run(called_off())
    eventually(lambda: node.rows_of(call.id), "the row of the call that was called off")
    (row,) = node.rows_of(call.id)
    assert (row.status, row.error) == ("cancelled", "CallCancelled")


def test_a_call_is_cut_off_at_what_it_may_cost(
    node: LiveNode, start_pod: StartPod, key: str
) -> None:
    _, url = start(start_pod, key, "rest")
    call = replace(call_of("rest", b'{"seconds": 30}'), max_cost_nano=0)
    with pytest.raises(DsfnError, match="would cost more"):
        asyncio.run(made(url, key, call, revision_of(node, "rest")))
