"""The control service on a real cluster: its leader goes away, and nothing else does."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_runs import Dsfn
from deadlines import eventually
from live_platform import end_pods
from wheels import make_wheel

from dsfn.knative.cluster.objects import Objects

pytestmark = pytest.mark.cluster

APP = """
import dsfn


@dsfn.function
def measure(text: str) -> int:
    return len(text)
"""
WITH_REQUIREMENTS = """
import sys

import dsfn
import greeting


@dsfn.function(requirements=["{requirement}"])
def greet(name: str) -> str:
    loader = sys.modules["dsfn.runtime.worker.main"].__spec__.loader
    return f"{{greeting.WORD}} {{name}} by {{type(loader).__module__}}"
"""
CALLS_S = 25.0


@pytest.fixture
def namespace(objects: Objects) -> str:
    return f"dsfn-test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def dsfn(objects: Objects, namespace: str, tmp_path: Path, told: dict[str, str]) -> Iterator[Dsfn]:
    """The command line of a platform with agents, which is installed for as long."""
    variables = {
        "DSFN_DATA": str(tmp_path),
        "KUBECONFIG": os.environ["KUBECONFIG"],
        "DSFN_URL": f"kubernetes:///{namespace}",
        "DSFN_API_KEY": f"dsfn_local_{uuid.uuid4().hex}",
    }
    dsfn, where = Dsfn(tmp_path, {**variables, **told}), ("--namespace", namespace)
    run = dsfn("platform", "install", *where, "--enable-features", "--timeout", "300")
    try:
        assert run.code == 0, run.err
        yield dsfn
    finally:
        end_pods(objects, namespace)
        run = dsfn("platform", "uninstall", *where, "--with-functions", "--timeout", "300")
    assert run.code == 0, run.err


@contextmanager
def offered(place: Path) -> Iterator[str]:
    """Offers the files of a directory to pods, and says where."""
    handler = partial(SimpleHTTPRequestHandler, directory=place)
    with ThreadingHTTPServer((os.environ["DSFN_TEST_HOST"], 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://{server.server_address[0]!s}:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


def test_a_function_with_requirements_runs_in_an_image_that_is_built_for_it(
    dsfn: Dsfn, tmp_path: Path
) -> None:
    place = tmp_path / "offered"
    place.mkdir()
    wheel = make_wheel(place, "greeting", "1.0", "WORD = 'hello'")
    with offered(place) as url:
        source = WITH_REQUIREMENTS.format(requirement=f"greeting @ {url}/{wheel.name}")
        (dsfn.directory / "app.py").write_text(source, encoding="utf-8")
        run = dsfn("deploy", "app.py")
    assert run.code == 0, run.err
    assert "Building " in run.err
    said = dsfn("invoke", "greet", "--data", '{"name": "you"}').json()
    assert said == "hello you by dsfn.runtime.bytecode"  # that of the image, with what is new in it


def lease(namespace: str) -> Any:
    metadata = {"name": "dsfn-control", "namespace": namespace}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}


def test_a_leader_that_is_killed_under_load_is_followed_and_each_call_is_billed_once(
    dsfn: Dsfn, namespace: str, objects: Objects
) -> None:
    (dsfn.directory / "app.py").write_text(APP, encoding="utf-8")
    (deployed,) = dsfn("deploy", "app.py", "--json").json()
    assert deployed["url"].startswith("http://measure.")

    def holder() -> str:
        found = objects.read(lease(namespace))
        assert found is not None
        return str(found["spec"]["holderIdentity"])

    first, answered, refused = holder(), 0, 0
    pod = {"name": first, "namespace": namespace}
    path = objects.path({"apiVersion": "v1", "kind": "Pod", "metadata": pod})
    end_s, is_killed = time.monotonic() + CALLS_S, False
    while time.monotonic() < end_s or not is_killed:
        if answered == 3 and not is_killed:
            objects.cluster.request("DELETE", path, body={"gracePeriodSeconds": 0})
            is_killed, end_s = True, time.monotonic() + CALLS_S
        run = dsfn("invoke", "measure", "--data", '{"text": "four"}', "--json")
        answered, refused = answered + (run.code == 0), refused + (run.code != 0)
    assert eventually(lambda: holder() not in ("", first), "another leader")
    eventually(lambda: dsfn("invoke", "measure", "--data", '{"text": "12345"}').out == "5\n", "it")
    status = ("platform", "status", "--namespace", namespace)
    eventually(lambda: dsfn(*status).code == 0, "two replicas again")
    rows = "SELECT count(*), count(DISTINCT id) FROM dsfn.entries WHERE kind = 'usage'"
    with psycopg.connect(dsfn.variables["DSFN_LEDGER"]) as connection:
        counted: Any = connection.execute(rows).fetchone()
    assert answered + 1 <= counted[0] == counted[1] <= answered + refused + 1
