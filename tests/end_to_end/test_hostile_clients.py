"""Clients and functions that would harm others, were there no limits."""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from deadlines import eventually
from live_node import APPS, LiveNode, StartNode
from plain_http import plain_client, plain_get


def address(node: LiveNode) -> tuple[str, int]:
    url = httpx.URL(node.url)
    assert url.port is not None
    return (url.host, url.port)


def answer_to(node: LiveNode, request: bytes) -> bytes:
    """All that comes back until the node closes the connection."""
    found = b""
    with socket.create_connection(address(node), 30) as connection:
        try:
            connection.sendall(request)
            while data := connection.recv(1 << 16):
                found += data
        except ConnectionError:
            pass  # it was closed while the rest was still being sent
    return found


def test_what_is_not_http_is_a_problem(node: LiveNode) -> None:
    answer = answer_to(node, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


def test_a_head_without_end_is_refused(node: LiveNode) -> None:
    start = b"POST /functions/echo HTTP/1.1\r\nhost: node\r\n"
    for rest in (b"x: " + b"v" * (1 << 20), b"x: v\r\n" * 50_000 + b"\r\n"):
        answer = answer_to(node, start + rest)
        assert answer.startswith(b"HTTP/1.1 431 "), answer[:200]
        assert b"head-too-large" in answer


def test_a_head_that_does_not_come_is_not_waited_for(start: StartNode) -> None:
    node = start(libraries=(), head_timeout_s=0.5)
    assert answer_to(node, b"") == b""
    assert answer_to(node, b"POST /func") == b""
    assert node.http.get("/health/liveness").status_code == 200


def test_too_many_connections_are_told_to_come_back(start: StartNode) -> None:
    node = start(libraries=(), max_connections=5, head_timeout_s=2)
    node.http.close()
    silent = [socket.create_connection(address(node), 30) for _ in range(6)]
    refused = plain_get(f"{node.url}/health/liveness")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["content-type"] == "application/problem+json"
    eventually(lambda: _is_alive(node), "the silent connections to be closed")
    for connection in silent:
        connection.close()
    node.http = plain_client(node.url, 90)


def _is_alive(node: LiveNode) -> bool:
    return plain_get(f"{node.url}/health/liveness").status_code == 200


def test_the_bodies_of_waiting_calls_are_bounded_together(start: StartNode) -> None:
    node = start(libraries=(), max_waiting_bytes=1 << 20)
    node.deploy(APPS / "hostile.py")
    text = "x" * 400_000
    with ThreadPoolExecutor(5) as clients:
        calls = [clients.submit(node.call, "size-slowly", text=text, wait_s=1.0) for _ in range(5)]
        statuses = sorted(call.result().status_code for call in calls)
    assert statuses == [200, 200, 503, 503, 503]
    assert node.value("size-slowly", text=text) == 400_000


def test_a_worker_out_of_memory_is_not_given_the_next_call(node: LiveNode) -> None:
    node.deploy(APPS / "hostile.py")
    for _ in range(5):
        assert node.call("hold", megabytes=400).json()["type"].endswith("/out-of-memory")
        assert node.value("hold", megabytes=1) == 1 << 20


def test_a_handler_that_forks_does_not_spoil_later_calls(node: LiveNode) -> None:
    node.deploy(APPS / "hostile.py")
    for number in range(5):
        text = str(number) * 300_000
        assert node.value("fork", text=text) == text


def test_a_handler_may_spoil_its_output(node: LiveNode) -> None:
    node.deploy(APPS / "hostile.py")
    assert node.value("spoil", text="a") == "a"
    assert node.value("spoil", text="b") == "b"


def test_calls_that_shared_a_replica_which_ended_are_not_accused(node: LiveNode) -> None:
    node.deploy(APPS / "hostile.py")
    with ThreadPoolExecutor(2) as clients:
        neighbour = clients.submit(node.call, "share", exit_code=0, wait_s=20)
        eventually(lambda: node.states("share") == ["busy"], "the neighbour to run")
        guilty = clients.submit(node.call, "share", exit_code=3, wait_s=0.2)
        answers = [neighbour.result(), guilty.result()]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert {answer.json()["type"].rpartition("/")[2] for answer in answers} == {"replica-lost"}
    assert {node.row(answer).status for answer in answers} == {"platform"}
    alone = node.call("share", exit_code=3, wait_s=0)
    assert (alone.status_code, alone.json()["exit_code"]) == (502, 3)


def test_what_a_handler_started_ends_with_a_killed_node(start: StartNode, tmp_path: Path) -> None:
    node = start(libraries=())
    node.deploy(APPS / "hostile.py")
    pid = node.value("leave-behind")
    os.kill(pid, 0)
    node.kill()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the process to end")


def test_a_call_with_a_key_ends_whether_its_client_waits_or_not(node: LiveNode) -> None:
    node.deploy(APPS / "hostile.py")
    arguments = {"text": "abc", "wait_s": 1.0}
    headers = {"Idempotency-Key": "gone"}
    known = len(node.rows("size-slowly"))
    path = "/functions/size-slowly"
    try:
        node.http.post(path, json=arguments, headers=headers, timeout=0.4)
    except httpx.ReadTimeout:
        time.sleep(0.1)
    again = node.http.post(path, json=arguments, headers=headers)
    assert (again.json(), again.headers["dsfn-replayed"]) == (3, "true")
    assert [row.status for row in node.rows("size-slowly")[known:]] == ["succeeded"]


def test_a_failed_call_says_what_it_cost(node: LiveNode) -> None:
    node.deploy(APPS / "hostile.py")
    answer = node.call("hold", megabytes=400)
    row = node.row(answer)
    assert answer.headers["dsfn-held-us"] == str(row.held_us)
    assert int(answer.headers["dsfn-cost-nano"]) >= 0
    assert "execute;dur=" in answer.headers["server-timing"]
    assert answer.json()["charge"]["busy_us"] == row.busy_us


def test_preferences_are_read_as_the_standard_has_them(node: LiveNode) -> None:
    node.deploy(APPS / "hostile.py")
    for value, status in (
        ("Respond-Async, wait=5", 202),
        ("wait=5, respond-async; x=1", 202),
        ("not-respond-async-please", 200),
        ("return=minimal;foo=respond-async", 200),
    ):
        answer = node.http.post(
            "/functions/size-slowly", json={"text": "a"}, headers={"Prefer": value}
        )
        assert answer.status_code == status, value
