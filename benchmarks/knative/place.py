"""Where the benchmark runs: a namespace of a cluster; on this machine the control service and the
object store that the cluster's pods use."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.harness import ROOT
from benchmarks.processes import free_port, running
from dsfn.knative.cluster.connection import open_cluster
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.cluster.waiting import wait_ready
from dsfn.knative.manifests.accounts import accounts
from dsfn.knative.manifests.agent import (
    AgentSettings,
    agent_objects,
    agent_url,
    agents_namespace_of,
    agents_volume,
)
from dsfn.knative.manifests.features import AGENTS_FEATURE, enabling, missing_features
from dsfn.knative.manifests.function import SERVING
from dsfn.knative.manifests.network import agents_namespace
from dsfn.knative.manifests.platform import namespace_of
from dsfn.knative.manifests.security import restricted

BARE = Path(__file__).parent / "bare.py"
READY_S = 120.0
START_S = 60.0
_BUCKET = "functions"
_SECRET = "benchmark"


@dataclass(frozen=True, slots=True)
class Images:
    """`function`, `agent`: dsfn's, as `make images` names them; agents have that of the control
    service, "" for no agents. `go`: a server in Go that answers every GET on $PORT. `python`: any
    with python3, for the bare server."""

    function: str
    go: str
    python: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """`gateway`: Knative's ingress; `variables`: with which `dsfn` talks to the control service."""

    objects: Objects
    namespace: str
    gateway: str
    images: Images
    variables: Mapping[str, str]

    def deploy(self, source: Path) -> Any:
        """`dsfn deploy`; the Service once it is ready."""
        command = (sys.executable, "-m", "dsfn", "deploy", str(source), "--json")
        (function,) = json.loads(_run(command, {**os.environ, **self.variables}))
        return self.objects.read(self.service(function["name"]))

    def apply(self, name: str, container: Mapping[str, Any], **pod: Any) -> Any:
        """`kubectl apply` of a bare Knative Service, whose pods are as Kubernetes makes them but
        for `pod`; the Service once it is ready."""
        annotations = {
            "autoscaling.knative.dev/window": "6s",
            "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "0s",
        }
        template = {
            "metadata": {"annotations": annotations},
            "spec": {"containers": [container], **pod},
        }
        service = {**self.service(name), "spec": {"template": template}}
        _run(("kubectl", "apply", "-f", "-"), os.environ, json.dumps(service).encode())
        return wait_ready(self.objects, service, READY_S, lambda _: None)

    def service(self, name: str) -> Any:
        """The name of a Knative Service, as an object."""
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": SERVING, "kind": "Service", "metadata": metadata}

    def go(self) -> Any:
        """The container of a bare server in Go."""
        return self._bare(self.images.go)

    def python(self, edition: int = 0) -> Any:
        """That of a bare server in Python; another `edition` is another revision."""
        return {
            **self._bare(self.images.python),
            "command": ["python3", "-c", BARE.read_text(encoding="utf-8")],
            "env": [{"name": "EDITION", "value": str(edition)}],
        }

    def _bare(self, image: str) -> Any:
        ports = [{"containerPort": 8080}]
        return {"image": image, "ports": ports, "securityContext": restricted()}


def _run(command: Sequence[str], variables: Mapping[str, str], told: bytes = b"") -> bytes:
    """What a command prints. Raises `RuntimeError` with its words where it fails."""
    done = subprocess.run(command, env=variables, input=told, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return done.stdout


@contextmanager
def place(images: Images, host: str, gateway: str) -> Iterator[Place]:
    """Makes all this, and takes it away. `host`: an address of this machine that pods reach. Raises
    `RuntimeError`."""
    namespace = f"dsfn-bench-{secrets.token_hex(3)}"
    objects = Objects(open_cluster())
    if images.agent:
        _check_features(objects)
    with TemporaryDirectory(prefix="dsfn-bench-") as directory:
        root = Path(directory)
        with _store(root, host) as credentials:
            key = f"dsfn_local_{secrets.token_hex(16)}"
            told = {**credentials, "DSFN_API_KEY": key}
            objects.apply(namespace_of(namespace))
            try:
                for each in (*accounts(namespace), _secret(namespace, told)):
                    objects.apply(each)
                store = f"s3://{_BUCKET}/published"
                agent = agent_url(namespace) if images.agent else ""
                words = (namespace, images.function, store, agent)
                with (
                    _control(root, host, words, told) as url,
                    _agents(objects, namespace, images.agent, store, url, told),
                ):
                    variables = {"DSFN_URL": url, "DSFN_API_KEY": key}
                    yield Place(objects, namespace, gateway, images, variables)
            finally:
                objects.delete(namespace_of(namespace))


@contextmanager
def _agents(
    objects: Objects, namespace: str, image: str, store: str, url: str, told: Mapping[str, str]
) -> Iterator[None]:
    """Agents of this image on all nodes, unless it is ""."""
    if not image:
        yield
        return
    settings = AgentSettings(namespace, image, store, url, _SECRET)
    home = agents_namespace_of(namespace)
    objects.apply(home)
    try:
        objects.apply(_secret(agents_namespace(namespace), told))
        for each in agent_objects(settings):
            objects.apply(each)
        yield
    finally:
        objects.delete(agents_volume(namespace))
        objects.delete(home)


def _check_features(objects: Objects) -> None:
    """Raises `RuntimeError`."""
    found = objects.read(enabling())
    if AGENTS_FEATURE in missing_features((found or {}).get("data") or {}):
        raise RuntimeError(
            f"Knative's flag {AGENTS_FEATURE.flag!r} is off, without which there is no agent:"
            " `dsfn platform install --enable-features` switches it on."
        )


@contextmanager
def _store(root: Path, host: str) -> Iterator[dict[str, str]]:
    """An S3 server; how boto3 is told of it."""
    port = free_port()
    (root / "s3" / _BUCKET).mkdir(parents=True)
    access, secret = "benchmark", secrets.token_hex(16)
    command = ("versitygw", "--port", f"{host}:{port}", "posix", str(root / "s3"))
    keys = {"ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret}
    with running(command, root, keys, root / "s3.log"):
        yield {
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }


@contextmanager
def _control(
    root: Path, host: str, words: tuple[str, ...], told: Mapping[str, str]
) -> Iterator[str]:
    """The control service; its URL."""
    port, log = free_port(), root / "control.log"
    module = ("-m", "benchmarks.knative.control", host, str(port), str(root / "data"))
    with running((sys.executable, *module, *words), ROOT, told, log) as server:
        url, end_s = f"http://{host}:{port}", time.monotonic() + START_S
        while not _answers(url):
            if server.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(log.read_text(encoding="utf-8"))
            time.sleep(0.2)
        yield url


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/readiness", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _secret(namespace: str, told: Mapping[str, str]) -> Any:
    metadata = {"name": _SECRET, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(told)}
