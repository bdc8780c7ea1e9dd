from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from patience import within
from revisions import event_type, make_revision
from small_dags import make_dag
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Message
from trusted import trusted

from dsfn.billing.sqlite import connect
from dsfn.functions.errors import DsfnError, SourceError
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.blobs.owners import BlobOwners
from dsfn.runtime.canaries.canary import Terms
from dsfn.runtime.canaries.store import CanaryStore
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.config import Settings
from dsfn.runtime.deploy.bundle import BUNDLE_CONTENT_TYPE
from dsfn.runtime.deploy.pipeline import Deployed, Progress
from dsfn.runtime.gateway import deployments, functions_admin
from dsfn.runtime.gateway.ndjson import NdjsonResponse, ndjson_line
from dsfn.runtime.gateway.request import BodyReader
from dsfn.runtime.logs import LogStore
from dsfn.runtime.model import ReplicaState
from dsfn.runtime.problems import problem_response
from dsfn.runtime.registry import Registry
from dsfn.runtime.serving import ReplicaView
from dsfn.runtime.workflows.registry import WorkflowRegistry

FIRST, SECOND = make_revision(1), make_revision(2)
BUNDLE = {"Content-Type": BUNDLE_CONTENT_TYPE}
SNAPSHOT = {
    "digest": f"{1:064x}",
    "bytes": 1,
    "state": "published",
    "golden": False,
    "first_use": 0,
    "workspace_bytes": 0,
    "streams": False,
    "precision": None,
}


class OneReplica:
    """What serves, where every function has a replica."""

    def __init__(self) -> None:
        self.reconciled = 0

    def replicas(self, function: str) -> list[ReplicaView]:
        return [ReplicaView(FIRST.id, ReplicaState.READY, 7, 1.5)]

    def state(self, function: str) -> ReplicaState:
        return ReplicaState.READY

    def url(self, function: str, here: str) -> str | None:
        return here

    async def reconcile(self) -> None:
        self.reconciled += 1


class Scripted:
    """A pipeline that does what its entry says."""

    async def deploy(
        self, data: bytes, entry: str, terms: Terms | None
    ) -> AsyncGenerator[Progress, None]:
        yield Progress("discover", None, f"Importing {entry}.")
        if entry == "broken.py":
            raise SourceError("It does not compile.", traceback="line 1", function=None)
        yield Progress("done", None, "", (Deployed(FIRST, True), Deployed(SECOND, False)))


@pytest.fixture
def services(tmp_path: Path) -> Iterator[SimpleNamespace]:
    connection = connect(tmp_path / "node.db", "")
    registry = Registry(connection, SystemClock())
    registry.register(FIRST)
    registry.register(SECOND)
    yield SimpleNamespace(
        settings=Settings(tmp_path),
        clock=SystemClock(),
        registry=registry,
        workflows=WorkflowRegistry(connection, SystemClock()),
        pipeline=Scripted(),
        bodies=BodyReader(Settings(tmp_path).limits),
        blobs=BlobStore(tmp_path / "blobs"),
        owners=BlobOwners(connection, SystemClock()),
        logs=LogStore(tmp_path / "logs"),
        serving=OneReplica(),
        canaries=SimpleNamespace(store=CanaryStore(connection)),
    )
    connection.close()


@pytest.fixture
def client(services: SimpleNamespace) -> TestClient:
    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, DsfnError)
        return problem_response(error)

    routes = trusted([*functions_admin.ROUTES, *deployments.ROUTES])
    app = Starlette(routes=routes, exception_handlers={DsfnError: problem})
    app.state.services = services
    return TestClient(app, base_url="http://node:1")


def lines(response: Any) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


def test_functions_are_listed_and_described(client: TestClient, services: SimpleNamespace) -> None:
    services.registry.subscribe("echo", event_type("a"))
    (summary,) = client.get("/functions").json()["functions"]
    assert summary == {
        "name": "echo",
        "revision": SECOND.id,
        "state": "ready",
        "replica_count": 1,
        "url": "http://node:1/functions/echo",
        "created_at": summary["created_at"],
    }
    document = client.get("/functions/echo").json()
    assert document.items() >= summary.items()
    assert document["traffic"] == {SECOND.id: 100}
    assert document["snapshot"] is None
    assert document["snapshot_reason"] == "it holds a lock."
    assert document["replicas"] == [
        {"pid": 7, "pod": None, "revision": FIRST.id, "state": "ready", "idle_s": 1.5}
    ]
    (subscription,) = document["subscriptions"]
    assert subscription["exact"] == {"type": "a"}
    assert document["options"]["requirements"] == ["idna"]
    assert document["description"] == "Echoes."


def test_history_rollback_and_traffic(client: TestClient, services: SimpleNamespace) -> None:
    assert client.post("/functions/echo/rollback").json() == {"name": "echo", "revision": FIRST.id}
    assert client.post("/functions/echo/rollback").status_code == 409
    named = client.post("/functions/echo/rollback", json={"revision": SECOND.id})
    assert named.json()["revision"] == SECOND.id
    shares = {FIRST.id: 25, SECOND.id: 75}
    split = client.put("/functions/echo/traffic", json={"traffic": shares})
    assert split.json() == {"name": "echo", "traffic": shares}
    revisions = client.get("/functions/echo/history").json()["revisions"]
    assert [(r["revision"], r["traffic_percent"]) for r in revisions] == [
        (SECOND.id, 75),
        (FIRST.id, 25),
    ]
    assert revisions[1]["snapshot"] == SNAPSHOT
    assert services.serving.reconciled == 3


def test_a_deleted_function_is_gone(client: TestClient, services: SimpleNamespace) -> None:
    assert client.delete("/functions/echo").status_code == 204
    assert services.serving.reconciled == 1
    response = client.get("/functions/echo")
    assert response.status_code == 404
    assert response.json()["name"] == "echo"


def test_a_function_that_a_workflow_calls_is_deleted_after_it(
    client: TestClient, services: SimpleNamespace
) -> None:
    services.workflows.register(services.workflows.new_revision(make_dag()))
    refused = client.delete("/functions/echo")
    assert refused.status_code == 409
    assert refused.json().items() >= {"function": "echo", "workflows": ["relay"]}.items()
    assert services.registry.has("echo") and services.serving.reconciled == 0
    services.workflows.delete("relay")
    assert client.delete("/functions/echo").status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("PUT", "/functions/echo/traffic", {"traffic": {FIRST.id: 10}}, 422, "traffic"),
        ("PUT", "/functions/echo/traffic", {"traffic": 100}, 422, "traffic"),
        ("PUT", "/functions/echo/traffic", {"traffic": {"echo-x": 100}}, 404, None),
        ("PUT", "/functions/echo/traffic", [], 400, None),
        ("POST", "/functions/echo/rollback", {"revision": 3}, 422, "revision"),
        ("POST", "/functions/nope/rollback", {}, 404, None),
        ("GET", "/functions/nope/history", None, 404, None),
        ("GET", "/functions/nope/logs", None, 404, None),
        ("GET", "/functions/echo/logs?since=nan", None, 422, "since"),
        ("GET", "/functions/echo/logs?since=soon", None, 422, "since"),
        ("GET", "/functions/echo/logs?follow=maybe", None, 422, "follow"),
        ("GET", f"/blobs/{'0' * 64}", None, 404, None),
        ("POST", "/deployments", None, 422, "entry"),
        ("POST", "/deployments?entry=app.py", {}, 415, None),
    ],
)
def test_a_request_that_makes_no_sense_is_a_problem_that_names_the_field(
    client: TestClient, method: str, path: str, body: object, status: int, field: str | None
) -> None:
    response = client.request(method, path, json=body)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["status"]) == (status, status)
    assert problem.get("field") == field


def test_a_body_that_is_no_json_is_malformed(client: TestClient) -> None:
    for body in (b"{", b"[" * 60_000, b"\xff"):
        assert client.put("/functions/echo/traffic", content=body).status_code == 400
    assert client.put("/functions/echo/traffic", content=b" " * 70_000).status_code == 413


def test_a_deployment_tells_each_step_and_its_result(
    client: TestClient, services: SimpleNamespace
) -> None:
    response = client.post("/deployments?entry=app.py", content=b"x", headers=BUNDLE)
    step, done = lines(response)
    assert step == {"stage": "discover", "function": None, "message": "Importing app.py."}
    assert done == {
        "stage": "done",
        "result": [
            {
                "kind": "function",
                "name": "echo",
                "revision": FIRST.id,
                "url": "http://node:1/functions/echo",
                "snapshot": SNAPSHOT,
                "snapshot_reason": None,
                "created": True,
            },
            {
                "kind": "function",
                "name": "echo",
                "revision": SECOND.id,
                "url": "http://node:1/functions/echo",
                "snapshot": None,
                "snapshot_reason": "it holds a lock.",
                "created": False,
            },
        ],
    }
    assert services.serving.reconciled == 1


def test_a_deployment_that_fails_ends_with_the_problem(
    client: TestClient, services: SimpleNamespace
) -> None:
    response = client.post("/deployments?entry=broken.py", content=b"x", headers=BUNDLE)
    assert response.status_code == 200
    failed = lines(response)[-1]
    assert failed["stage"] == "failed"
    assert failed["problem"]["detail"] == "It does not compile."
    assert failed["problem"]["traceback"] == "line 1"
    assert services.serving.reconciled == 0


def test_blobs_come_back_with_their_type(client: TestClient) -> None:
    response = client.post("/blobs", content=b"sound", headers={"Content-Type": "audio/wav"})
    assert response.status_code == 201
    assert response.json()["bytes"] == 5
    digest = response.json()["ref"].rpartition(":")[2]
    blob = client.get(f"/blobs/{digest}")
    assert (blob.content, blob.headers["content-type"]) == (b"sound", "audio/wav")


def test_logs_are_what_was_printed_since(client: TestClient, services: SimpleNamespace) -> None:
    assert lines(client.get("/functions/echo/logs")) == []

    async def print_a_line() -> None:
        read_end, write_end = os.pipe()
        pump = services.logs.pump(
            read_end, function="echo", revision=FIRST.id, replica=7, on_limit=lambda: None
        )
        os.write(write_end, b"heard you\n")
        os.close(write_end)
        pump.close()

    asyncio.run(print_a_line())
    (line,) = lines(client.get("/functions/echo/logs?since=60"))
    assert (line["text"], line["revision"], line["replica"]) == ("heard you", FIRST.id, 7)
    assert lines(client.get("/functions/echo/logs?since=0")) == []


def test_lines_that_no_one_reads_any_more_are_not_made() -> None:
    closed: list[bool] = []

    async def forever() -> AsyncGenerator[bytes, None]:
        try:
            yield ndjson_line({"n": 1})
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def visit() -> None:
        began = asyncio.Event()

        async def receive() -> Message:
            await began.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                began.set()

        await NdjsonResponse(forever())({"type": "http", "method": "GET"}, receive, send)
        assert closed == [True]

    asyncio.run(within(visit(), 10))
