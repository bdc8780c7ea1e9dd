"""A platform on a real cluster that tests break and mend."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
from cli_runs import Dsfn
from deadlines import eventually
from gates import Gate, gate
from live_cluster import GATEWAY
from postgres_server import PostgresServer
from s3_server import CREDENTIALS, S3Server

from dsfn.functions.errors import DsfnError, NotFound
from dsfn.knative.cli.reaching import control_service
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.cluster.readiness import condition
from dsfn.knative.manifests.accounts import CONTROL
from dsfn.knative.manifests.agent import AGENT
from dsfn.knative.manifests.function import SERVING
from dsfn.knative.manifests.network import agents_namespace
from dsfn.knative.manifests.platform import BROKER
from dsfn.knative.manifests.trigger import EVENTING
from dsfn.knative.manifests.words import COMPONENT, FUNCTION_LABEL

CALL_TIMEOUT_S = 60.0
ANSWERED_WITHIN_S = 90.0
WHOLE_WITHIN_S = 120.0
INSTALL_S = "300"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a platform needs beside the cluster, on this machine: a database and a bucket, with
    ways to them that can be cut. `told`: how it hears of them."""

    told: dict[str, str]
    postgres: Gate
    store: Gate


@contextmanager
def surroundings(database: str, s3: S3Server) -> Iterator[Surroundings]:
    """Opens the ways to a database and to a new bucket."""
    names = ("DSFN_CONTROL_IMAGE", "DSFN_FUNCTION_IMAGE", "DSFN_TEST_HOST")
    host = os.environ.get("DSFN_TEST_HOST", "")
    missing = [name for name in names if not os.environ.get(name)]
    assert not missing, f"set {missing[0]}: docs/knative.md says to what"
    ledger = httpx.URL(database)
    with gate(ledger.port or 0, host=host) as postgres, gate(s3.port, host=host) as store:
        told = {
            "AWS_ACCESS_KEY_ID": CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": store.url,
            "DSFN_LEDGER": str(ledger.copy_with(host=host, port=postgres.port)),
            "DSFN_STORE": f"s3://{s3.make_bucket()}/platform",
            **{name: os.environ[name] for name in names},
        }
        yield Surroundings(told, postgres, store)


@dataclass(frozen=True, slots=True)
class Pods:
    """Pods of one kind, by their namespace and labels."""

    namespace: str
    selector: str


@dataclass(frozen=True, slots=True)
class Killed:
    """Pods that were, by their uids, and how many of their kind there were with them."""

    pods: Pods
    uids: frozenset[str]
    before: int


ACTIVATOR = Pods("knative-serving", "app=activator")
BROKER_INGRESS = Pods("knative-eventing", "eventing.knative.dev/brokerRole=ingress")
BROKER_FILTER = Pods("knative-eventing", "eventing.knative.dev/brokerRole=filter")


@dataclass(frozen=True, slots=True)
class LivePlatform:
    """An installed platform. `dsfn`: its command line, for one thread at a time."""

    objects: Objects
    namespace: str
    dsfn: Dsfn
    around: Surroundings
    server: PostgresServer

    @property
    def url(self) -> str:
        """The control service, as contexts have it."""
        return self.dsfn.variables["DSFN_URL"]

    @property
    def agents(self) -> Pods:
        """The agents of the nodes."""
        return Pods(agents_namespace(self.namespace), f"{COMPONENT}={AGENT}")

    @property
    def controls(self) -> Pods:
        """The replicas of the control service."""
        return Pods(self.namespace, f"{COMPONENT}={CONTROL}")

    def pods_of(self, function: str) -> Pods:
        """A function's pods."""
        return Pods(self.namespace, f"{FUNCTION_LABEL}={function}")

    def pods(self, pods: Pods) -> list[Any]:
        """Those that are not about to go."""
        query = {"labelSelector": pods.selector}
        found = self.objects.list("v1", "Pod", pods.namespace, query)
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def ready(self, pods: Pods) -> int:
        """How many are ready."""
        return sum(condition(each, "Ready").get("status") == "True" for each in self.pods(pods))

    def kill(self, pods: Pods, count: int | None = None, name: str = "") -> Killed:
        """Deletes pods without a moment to say goodbye, all of them, `count` or the one of that
        name, and one at least."""
        there = self.pods(pods)
        found = [each for each in there if name in ("", each["metadata"]["name"])][:count]
        assert found, f"there is no pod {name or pods.selector} to kill"
        for each in found:
            path = self.objects.path(each)
            self.objects.cluster.request("DELETE", path, body={"gracePeriodSeconds": 0})
        uids = frozenset(each["metadata"]["uid"] for each in found)
        return Killed(pods, uids, len(there))

    def are_replaced(self, killed: Killed) -> bool:
        """Whether there is none of them any more, and as many pods are ready as there were."""
        query = {"labelSelector": killed.pods.selector}
        found = list(self.objects.list("v1", "Pod", killed.pods.namespace, query))
        is_gone = killed.uids.isdisjoint(each["metadata"]["uid"] for each in found)
        return is_gone and self.ready(killed.pods) >= killed.before

    def goes_by_activator(self, function: str) -> bool:
        """Whether calls of a function's own URL come to activators alone: Knative has them in the
        way where they are asked for, and where pods have no room for a burst."""
        networking = "networking.internal.knative.dev/v1alpha1"
        query = {"labelSelector": f"serving.knative.dev/service={function}"}
        ways = self.objects.list(networking, "ServerlessService", self.namespace, query)
        activators = {each["status"].get("podIP") for each in self.pods(ACTIVATOR)}
        led_to: set[str] = set()
        for each in ways:
            metadata = {"name": each["status"]["serviceName"], "namespace": self.namespace}
            ends = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
            subsets = (self.objects.read(ends) or {}).get("subsets") or ()
            led_to |= {one["ip"] for subset in subsets for one in subset.get("addresses") or ()}
        return bool(led_to) and led_to <= activators

    def leader(self) -> str:
        """The pod that leads, "" for none."""
        metadata = {"name": "dsfn-control", "namespace": self.namespace}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
        found = self.objects.read(lease)
        return "" if found is None else str(found["spec"].get("holderIdentity") or "")

    def deploy(self, source: Path) -> list[Any]:
        """`dsfn deploy`; the functions."""
        found: list[Any] = self.dsfn("deploy", str(source), "--json").json()
        return found

    def remove(self, function: str) -> None:
        """`dsfn delete`: the cluster may be a small one."""
        run = self.dsfn("delete", function)
        assert run.code == 0, run.err

    def host(self, function: str) -> str:
        """That of a function's own URL."""
        metadata = {"name": function, "namespace": self.namespace}
        found = self.objects.read({"apiVersion": SERVING, "kind": "Service", "metadata": metadata})
        assert found is not None
        return str(urlsplit(found["status"]["url"]).netloc)

    def ask_function(self, host: str, body: Any, key: str) -> httpx.Response:
        """A call of a function's own URL, through Knative's ingress. Raises
        `httpx.TransportError`."""
        headers = {"Host": host, "Idempotency-Key": key}
        with httpx.Client(trust_env=False, timeout=CALL_TIMEOUT_S) as http:
            return http.post(GATEWAY or f"http://{host}", json=body, headers=headers)

    def answer(self, function: str) -> Any:
        """What a function without arguments answers, None while it does not."""
        try:
            answer = self.ask_function(self.host(function), {}, uuid.uuid4().hex)
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def insisted(self, function: str) -> Any:
        """The first answer of a function that may say to come again."""
        return eventually(lambda: self.answer(function), "an answer", ANSWERED_WITHIN_S)

    def ask_control(self, path: str, body: Any, key: str = "") -> httpx.Response:
        """A request to the control service, by way of a pod that is ready. Raises `DsfnError` and
        `httpx.TransportError`."""
        headers = {"Authorization": f"Bearer {self.dsfn.variables['DSFN_API_KEY']}"}
        if key:
            headers["Idempotency-Key"] = key
        with control_service(self.url) as there:
            transport = httpx.HTTPTransport(uds=there.socket)
            with httpx.Client(transport=transport, timeout=CALL_TIMEOUT_S) as http:
                return http.post(f"{there.url}{path}", json=body, headers=headers)

    def send_event(self, type: str, key: str) -> None:
        """Has the Broker take an event without data. Raises `DsfnError`."""
        self.send({"specversion": "1.0", "id": key, "type": type, "source": "/tests"})

    def send(self, event: dict[str, Any]) -> None:
        """Has the Broker take an event. Raises `DsfnError`."""
        metadata = {"name": BROKER, "namespace": self.namespace}
        broker = self.objects.read({"apiVersion": EVENTING, "kind": "Broker", "metadata": metadata})
        assert broker is not None
        url = urlsplit(broker["status"]["address"]["url"])
        service, namespace, *_ = (url.hostname or "").split(".")
        # Brokers have addresses inside the cluster: the way there is through the API server.
        path = f"/api/v1/namespaces/{namespace}/services/{service}:80/proxy{url.path}"
        kind = "application/cloudevents+json"
        self.objects.cluster.request("POST", path, body=event, content_type=kind)

    def rows(self, function: str) -> list[tuple[str, str, str]]:
        """Id, key and status of each call of a function in the ledger."""
        sql = (
            "SELECT id, idempotency_key, status FROM dsfn.entries"
            " WHERE kind = 'usage' AND function = %s"
        )
        with psycopg.connect(self.dsfn.variables["DSFN_LEDGER"]) as connection:
            return connection.execute(sql, (function,)).fetchall()

    def is_whole(self) -> bool:
        """Whether all of it is there, and answers."""
        try:
            return (
                self.ready(self.controls) == 2
                and self.ready(self.agents) > 0
                and self.ready(ACTIVATOR) > 0
                and self.ready(BROKER_INGRESS) > 0
                and self.ready(BROKER_FILTER) > 0
                and self.ready(self.pods_of("rest")) == 4
                and self.ready(self.pods_of("hear")) == 1
                and self.ask_control("/functions/rest", {"seconds": 0}).status_code == 200
            )
        except (DsfnError, httpx.HTTPError):
            return False

    def mend(self) -> None:
        """Takes back what a test has done to what is around, and waits for the rest."""
        self.around.postgres.open()
        self.around.store.open()
        self.server.start()
        eventually(self.is_whole, "the platform to be whole", WHOLE_WITHIN_S)


@contextmanager
def live_platform(
    objects: Objects, database: str, s3: S3Server, server: PostgresServer, place: Path
) -> Iterator[LivePlatform]:
    """Installs a platform with this database, which is the server's, and a new bucket, for as long
    as the block takes."""
    with surroundings(database, s3) as around, _installed(objects, around, server, place) as found:
        yield found


@contextmanager
def _installed(
    objects: Objects, around: Surroundings, server: PostgresServer, place: Path
) -> Iterator[LivePlatform]:
    namespace = f"dsfn-test-{uuid.uuid4().hex[:8]}"
    variables = {
        **around.told,
        "DSFN_DATA": str(place),
        "KUBECONFIG": os.environ["KUBECONFIG"],
        "DSFN_URL": f"kubernetes:///{namespace}",
        "DSFN_API_KEY": f"dsfn_local_{uuid.uuid4().hex}",
    }
    dsfn, where = Dsfn(place, variables), ("--namespace", namespace, "--timeout", INSTALL_S)
    run = dsfn("platform", "install", *where, "--enable-features")
    try:
        assert run.code == 0, run.err
        yield LivePlatform(objects, namespace, dsfn, around, server)
    finally:
        around.postgres.open()
        around.store.open()
        server.start()
        end_pods(objects, namespace)
        run = dsfn("platform", "uninstall", *where, "--with-functions")
    assert run.code == 0, run.err


def end_pods(objects: Objects, namespace: str) -> None:
    """Ends a namespace's functions at once: Knative has pods go half a minute after their last
    call, which an uninstall waits for."""
    for each in objects.list(SERVING, "Service", namespace, {}):
        objects.delete({"apiVersion": SERVING, "kind": "Service", **each})
    query = {"labelSelector": "serving.knative.dev/service"}

    def are_gone() -> bool:
        for each in objects.list("v1", "Pod", namespace, query):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": each["metadata"]}
            with suppress(NotFound):
                objects.cluster.request("DELETE", objects.path(pod), body={"gracePeriodSeconds": 0})
        # Until a Service is gone, a pod that has ended may be replaced.
        return not list(objects.list(SERVING, "Service", namespace, {}))

    eventually(are_gone, "the functions to be gone", WHOLE_WITHIN_S)
