"""docs/limits.md is complete and true; here are the limits that no other test runs into."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import httpx
import pytest
from checkout import ROOT
from documentation import Shell

from dsfn.functions.errors import MalformedBody
from dsfn.functions.multipart import MAX_FIELDS, read_form
from dsfn.runtime.config import Limits
from dsfn.runtime.deploy.stages import MAX_FUNCTIONS, MAX_WORKFLOWS

PAGE = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
LIMITS = """
max_waiting_bytes = 200_000
max_connections = 6
body_timeout_s = 0.3
"""
APP = """\
import time
from pathlib import Path

import dsfn


@dsfn.function(max_replicas=1)
def wait(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@dsfn.function(max_replicas=1)
class Sluggard:
    def after_restore(self) -> None:
        time.sleep(60 if Path("{flag}").exists() else 0)

    def __call__(self) -> str:
        return "up"


@dsfn.function
def wordy(count: int) -> str:
    raise ValueError("word " * count)
"""
ROW = re.compile(r"^\| `(\w+)` \| ([^|]*) \|", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Node:
    """A node with small limits."""

    shell: Shell
    http: httpx.Client

    def connect(self, request: str) -> socket.socket:
        """A connection on which this was sent."""
        connection = socket.create_connection(("127.0.0.1", self.shell.port), timeout=30)
        connection.sendall(request.encode())
        return connection


@contextmanager
def running(place: Path, limits: str) -> Iterator[Node]:
    """A node of which APP was deployed."""
    shell = Shell.make(place)
    with (place / ".data" / "config.toml").open("a", encoding="utf-8") as configuration:
        configuration.write(f"[limits]\n{limits}")
    source = APP.replace("{flag}", str(place / "slow"))
    (place / "app.py").write_text(source, encoding="utf-8")
    code, printed = shell.run("dsfn up --detach && dsfn deploy app.py")
    try:
        assert code == 0, printed
        with httpx.Client(base_url=f"http://127.0.0.1:{shell.port}", timeout=30) as http:
            yield Node(shell, http)
    finally:
        shell.run("dsfn down")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("limited"), LIMITS) as node:
        yield node


def test_every_limit_of_a_node_is_documented_with_its_default() -> None:
    section = PAGE.partition("## Of a node")[2].partition("\n## ")[0]
    documented = dict(ROW.findall(section))
    standard = Limits()
    assert documented == {f.name: shown(f.name, getattr(standard, f.name)) for f in fields(Limits)}


def shown(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        shift, unit = next(u for u in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if value >= 1 << u[0])
        return f"{int(value) >> shift} {unit}"
    return f"{value:g} s" if name.endswith("_s") else str(value)


def test_every_test_that_the_page_names_is_there() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.M)}
    assert set(re.findall(r"`(test_\w+)`", PAGE)) <= there


def begin(node: Node, threads: ThreadPoolExecutor, seconds: float) -> Future[httpx.Response]:
    """A call that runs now and goes on for some time."""
    call = threads.submit(node.http.post, "/functions/wait", json={"seconds": seconds})
    while node.http.get("/functions/wait").json()["state"] != "busy":
        assert not call.done(), call.result().text
    return call


def test_a_replica_that_does_not_start_in_time_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path, "start_timeout_s = 2\n") as node:
        (tmp_path / "slow").touch()
        answer = node.http.post("/functions/sluggard", json={})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["type"].endswith("/replica-start-failed")
        assert "not ready within 2 s" in answer.json()["detail"]


def test_more_connections_than_the_node_takes_are_refused(node: Node) -> None:
    with ExitStack() as stack:
        for _ in range(7):
            stack.enter_context(node.connect(""))
        answer = httpx.get(f"{node.http.base_url}/health/liveness")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_the_head_of_a_request_has_a_limit(node: Node) -> None:
    head = f"GET /health/liveness HTTP/1.1\r\nHost: node\r\nX-Long: {'x' * (1 << 16)}\r\n\r\n"
    with node.connect(head) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_more_bytes_on_their_way_than_the_node_may_hold_are_refused(node: Node) -> None:
    answer = node.http.post("/functions/wordy", content=b" " * 2_000_000)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_body_that_does_not_arrive_is_given_up(node: Node) -> None:
    head = "POST /functions/wait HTTP/1.1\r\nHost: node\r\nContent-Length: 10\r\n\r\n{"
    with node.connect(head) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_a_node_that_stops_waits_for_calls_no_longer_than_it_may(tmp_path: Path) -> None:
    limits = "shutdown_timeout_s = 1\n"
    with running(tmp_path, limits) as node, ThreadPoolExecutor() as threads:
        call = begin(node, threads, seconds=100)
        code, printed = node.shell.run("dsfn down")
        assert code == 0 and "killed" not in printed
        assert call.exception() is not None or call.result().status_code >= 500


def test_a_form_has_a_limit_of_fields() -> None:
    field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    assert len(read_form((("boundary", "x"),), field * MAX_FIELDS + b"--x--\r\n")) == MAX_FIELDS
    with pytest.raises(MalformedBody, match=f"more than {MAX_FIELDS} fields"):
        read_form((("boundary", "x"),), field * (MAX_FIELDS + 1) + b"--x--\r\n")


def test_a_key_has_a_limit(node: Node) -> None:
    for length, status in ((255, 200), (256, 422)):
        headers = {"Idempotency-Key": "k" * length}
        answer = node.http.post("/functions/wait", json={"seconds": 0}, headers=headers)
        assert answer.status_code == status


def test_an_administrative_body_has_a_limit(node: Node) -> None:
    answer = node.http.put("/functions/wait/traffic", content=b" " * (1 << 17))
    assert (answer.status_code, answer.json()["limit_bytes"]) == (413, 64 << 10)


def test_a_long_message_and_traceback_are_cut(node: Node) -> None:
    problem = node.http.post("/functions/wordy", json={"count": 10_000}).json()
    assert problem["detail"].startswith("ValueError: word word")
    assert len(problem["detail"]) < 2100
    assert len(problem["traceback"]) < 20_100
    assert problem["traceback"].rstrip().endswith("word")


def test_a_source_has_a_limit_of_functions(node: Node) -> None:
    one = "@dsfn.function\ndef f{n}() -> int:\n    return {n}\n"
    source = "".join(one.replace("{n}", str(n)) for n in range(MAX_FUNCTIONS + 1))
    (node.shell.place / "many.py").write_text(f"import dsfn\n{source}", encoding="utf-8")
    code, printed = node.shell.run("dsfn deploy many.py")
    assert (code, printed.splitlines()[-1]) == (
        1,
        f"many.py defines more than {MAX_FUNCTIONS} functions.",
    )


def test_a_source_has_a_limit_of_workflows(node: Node) -> None:
    one = '@dsfn.workflow\ndef w{n}(count: int) -> str:\n    return dsfn.deployed("wordy")(count)\n'
    source = "".join(one.replace("{n}", str(n)) for n in range(MAX_WORKFLOWS + 1))
    (node.shell.place / "flows.py").write_text(f"import dsfn\n{source}", encoding="utf-8")
    code, printed = node.shell.run("dsfn deploy flows.py")
    assert (code, printed.splitlines()[-1]) == (
        1,
        f"flows.py defines more than {MAX_WORKFLOWS} workflows.",
    )
