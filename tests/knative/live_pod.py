"""A pod's program in a process of its own, and the store that it starts from."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx
from as_in_pods import PYTHON
from deadlines import eventually
from live_node import LiveNode, environment
from plain_http import plain_client
from ports import free_port
from s3_server import CREDENTIALS, S3Server

from dsfn.billing.sqlite import connect
from dsfn.knative.pod.document import Publication
from dsfn.knative.pod.publication import publish
from dsfn.knative.pod.settings import store_settings
from dsfn.knative.pod.store import open_published
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.model import Revision
from dsfn.runtime.registry import Registry
from dsfn.snapshots.store import FileStore

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class TestStore:
    """A store by its URL, and the variables that a process needs to use it."""

    __test__ = False

    url: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def publish(self, node: LiveNode, function: str) -> Publication:
        """Brings the revision that serves a function on a node here."""
        revision = revision_of(node, function)
        store = open_published(store_settings(self.url, self.variables))
        snapshots = FileStore(node.data / "snapshots")
        try:
            return publish(revision, node.data / "bundles", snapshots, store, 60.0)
        finally:
            store.snapshots.close()


def directory_store(place: Path) -> TestStore:
    """A store that is a directory."""
    place.mkdir(exist_ok=True)
    return TestStore(f"file://{place}")


def s3_store(server: S3Server) -> TestStore:
    """A store in a bucket of its own."""
    bucket = server.make_bucket()
    variables = {**CREDENTIALS, "AWS_ENDPOINT_URL": server.url}
    return TestStore(f"s3://{bucket}/published", variables)


def revision_of(node: LiveNode, function: str) -> Revision:
    """The revision that serves a function, read beside the node."""
    with closing(connect(node.data / "node.db", "")) as connection:
        return Registry(connection, SystemClock()).route(function)


@dataclass(eq=False)
class LivePod:
    """A pod that this test run has started."""

    place: Path
    process: subprocess.Popen[bytes]
    port: int
    http: httpx.Client

    @property
    def log(self) -> str:
        """What it has printed."""
        return (self.place / "pod.log").read_text(encoding="utf-8")

    def call(self, /, **arguments: object) -> httpx.Response:
        """Calls its function with JSON arguments."""
        return self.http.post("/", json=arguments)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Its exit code once it has ended."""
        code = self.process.wait(STOP_TIMEOUT_S)
        self.http.close()
        return code

    def end(self) -> None:
        """Ends it if it still lives."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)
        self.http.close()


class StartPod(Protocol):
    """Starts a pod that serves a function of the node's."""

    def __call__(
        self,
        function: str,
        *,
        store: TestStore | None = None,
        control: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> LivePod: ...


def launch_pod(
    place: Path, variables: Mapping[str, str], *, port: int | None = None, wait: bool = True
) -> LivePod:
    """Starts a pod with these variables, and waits until it answers."""
    place.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    own = {
        "PORT": str(port),
        "DSFN_DATA": str(place / "dsfn"),
        "K_SERVICE": "function",
        "K_REVISION": "function-00001",
        **variables,
    }
    with (place / "pod.log").open("ab") as log:
        process = subprocess.Popen(
            [*PYTHON, "-m", "dsfn.knative.pod"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environment({}), **own},
            cwd="/",  # not that of a command that this test run happens to be at
            start_new_session=True,
        )
    client = plain_client(f"http://127.0.0.1:{port}", CALL_TIMEOUT_S)
    pod = LivePod(place, process, port, client)
    if wait:
        try:
            eventually(lambda: _answers(pod), "the pod to answer", START_TIMEOUT_S)
        except BaseException:
            pod.end()
            raise
    return pod


def pod_variables(
    store: TestStore, digest: str, control: str, *, proved: bool = True
) -> dict[str, str]:
    """What a pod is told by its environment. `proved`: that one of its revision has been ready."""
    return {
        **store.variables,
        "DSFN_STORE": store.url,
        "DSFN_REVISION": digest,
        "DSFN_CONTROL": control,
        **({"DSFN_PROVED": "true"} if proved else {}),
    }


def _answers(pod: LivePod) -> bool:
    assert pod.process.poll() is None, f"The pod ended while it started:\n{pod.log}"
    try:
        return pod.http.get("/health/readiness").status_code == 200
    except httpx.TransportError:
        time.sleep(0.05)
        return False
