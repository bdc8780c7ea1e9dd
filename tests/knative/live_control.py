"""A control service of two replicas in processes of their own, with all that it needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from acting_cluster import ActingCluster, acting_cluster
from as_in_pods import PYTHON
from deadlines import eventually
from gates import Gate, gate
from live_node import DeployFailed, environment
from live_pod import TestStore, s3_store
from plain_http import plain_client, plain_get
from ports import free_port
from postgres_server import PostgresServer
from s3_server import S3Server
from scripted_cluster import KUBECONFIG

from dsfn.billing.signing import new_pem
from dsfn.runtime.deploy.bundle import BUNDLE_CONTENT_TYPE, pack

KEY = "dsfn_local_of-the-platform"
PROGRAM = Path(__file__).parent / "control_replica.py"
NAMESPACE = "functions"
# That of a leader which was killed runs out first.
LEADS_WITHIN_S = 60.0
CALL_TIMEOUT_S = 60.0
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/dsfn-control"


@dataclass(eq=False)
class Replica:
    """A replica, and its own ways to the API server and to PostgreSQL, which can be cut."""

    name: str
    place: Path
    port: int
    to_api: Gate
    to_postgres: Gate
    variables: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has printed."""
        return (self.place / "log").read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        """Where it is asked itself."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts its container, with the disk of its pod, and waits until it is ready; one that
        runs is left alone."""
        if self.process is not None and self.process.poll() is None:
            return
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*PYTHON, PROGRAM],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self.variables),
                start_new_session=True,
            )
        eventually(self.is_ready, f"{self.name} to be ready")

    def is_ready(self) -> bool:
        """What the kubelet's probe finds."""
        assert self.process is not None and self.process.poll() is None, self.log
        try:
            answer = plain_get(f"{self.url}/health/readiness")
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def end(self) -> None:
        """Ends it if it still lives."""
        if self.process is not None and self.process.poll() is None:
            self.kill()


@dataclass(eq=False)
class LiveControl:
    """The platform. `service`: both replicas at one address, as clients and pods know them."""

    cluster: ActingCluster
    database: str
    replicas: tuple[Replica, Replica]
    service: Gate
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {KEY}"})

    def client(self, url: str = "") -> httpx.Client:
        """A client of the Service, or of one replica. It connects anew for each request."""
        limits = httpx.Limits(max_keepalive_connections=0)
        return plain_client(url or self.service.url, CALL_TIMEOUT_S, self.headers, limits)

    def leader(self) -> Replica:
        """The replica that leads and takes calls."""

        def found() -> Replica | None:
            holder = self.holder()
            return next((each for each in self.replicas if self._leads(each, holder)), None)

        return eventually(found, "a leader", LEADS_WITHIN_S)

    def leader_after(self, before: Replica) -> Replica:
        """The one that leads once `before` does no more."""
        eventually(lambda: self.holder() != before.name, "another leader", LEADS_WITHIN_S)
        return self.leader()

    def holder(self) -> str:
        """Which replica has the Lease, "" for none."""
        found = LEASE in self.cluster.objects
        return self.lease()["spec"]["holderIdentity"] if found else ""

    def lease(self) -> Any:
        """The Lease, which somebody has held."""
        return self.cluster.objects[LEASE]

    def _leads(self, replica: Replica, holder: str) -> bool:
        if replica.name != holder or replica.process is None or replica.process.poll() is not None:
            return False
        with self.client(replica.url) as http:
            try:
                return http.get("/status").status_code == 200
            except httpx.TransportError:
                return False

    def other(self, replica: Replica) -> Replica:
        """The other one."""
        (found,) = (each for each in self.replicas if each is not replica)
        return found

    def deploy(self, http: httpx.Client, path: Path, **terms: str) -> dict[str, Any]:
        """Deploys a file, as a canary where there are terms; the functions by name. Raises
        `DeployFailed`, and `httpx.HTTPError` where the control service cannot be reached or goes
        away."""
        bundle = pack(path)
        answer = http.post(
            "/deployments",
            params={"entry": bundle.entry, **terms},
            content=bundle.data,
            headers={"Content-Type": BUNDLE_CONTENT_TYPE},
        ).raise_for_status()
        last = json.loads(answer.text.splitlines()[-1])
        if last["stage"] == "failed":
            raise DeployFailed(last["problem"])
        return {one["name"]: one for one in last["result"]}

    def rows(self, function: str) -> list[dict[str, Any]]:
        """The rows of a function's calls in the ledger."""
        with psycopg.connect(self.database, row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(
                "SELECT * FROM dsfn.entries WHERE kind = 'usage' AND function = %s", (function,)
            ).fetchall()


@contextmanager
def live_control(place: Path, store: TestStore, database: str) -> Iterator[LiveControl]:
    """A platform whose replicas are not started yet."""
    ports = (free_port(), free_port())
    secret = {**store.variables, "DSFN_API_KEY": KEY}
    common = {
        **secret,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DSFN_NAMESPACE": NAMESPACE,
        "DSFN_STORE": store.url,
        "DSFN_FUNCTION_IMAGE": "runtime",
        "DSFN_LEDGER_KEY": new_pem().decode(),
        "POD_IP": "127.0.0.1",
    }
    with ExitStack() as stack:
        cluster = stack.enter_context(acting_cluster(place / "cluster", secret))
        service = stack.enter_context(gate(*ports))
        common |= {"DSFN_TEST_HOSTS": str(cluster.hosts), "DSFN_CONTROL": service.url}
        replicas = []
        for name, port in zip(("control-a", "control-b"), ports, strict=True):
            to_api = stack.enter_context(gate(_port_of(cluster.kubeconfig)))
            to_postgres = stack.enter_context(gate(httpx.URL(database).port or 0))
            own = _made(place / name)
            (own / "kubeconfig").write_text(KUBECONFIG.format(port=to_api.port))
            variables = {
                **common,
                "PORT": str(port),
                "POD_NAME": name,
                "KUBECONFIG": str(own / "kubeconfig"),
                "DSFN_DATA": str(own / "data"),
                "DSFN_LEDGER": _at(database, to_postgres.port),
            }
            replicas.append(Replica(name, own, port, to_api, to_postgres, variables))
            stack.callback(replicas[-1].end)
        yield LiveControl(cluster, database, (replicas[0], replicas[1]), service)


@contextmanager
def running_platform(place: Path, s3: S3Server, postgres: PostgresServer) -> Iterator[LiveControl]:
    """A platform that takes calls, with a bucket and a database of its own."""
    database = postgres.make_database()
    with live_control(place, s3_store(s3), database) as platform:
        for each in platform.replicas:
            each.start()
        platform.leader()
        yield platform
    postgres.drop_database(database)


def _made(place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    return place


def _port_of(kubeconfig: Path) -> int:
    return int(kubeconfig.read_text().partition("http://127.0.0.1:")[2].partition('"')[0])


def _at(database: str, port: int) -> str:
    """The same database behind another port."""
    return str(httpx.URL(database).copy_with(port=port))
