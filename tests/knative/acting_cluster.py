"""An API server that does with Services what Knative does, by starting pods as processes here, and
keeps Leases.

A pod is started once for each revision, and stays; a host name leads to one by `hosts.json`, in
which `MappedTransport` looks it up.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from api_server import DocumentHandler, serving
from live_pod import LivePod, launch_pod
from port_forwards import forward
from scripted_cluster import KUBECONFIG
from stacks import WITH_STACKS, stacks

from dsfn.knative.manifests.accounts import CONTROL
from dsfn.knative.manifests.words import COMPONENT

BROKEN = "broken"
# Its pods are not there yet.
LATE = "late"
# Knative's webhook has these words for it.
TOO_LONG = (
    'admission webhook "validation.webhook.serving.knative.dev" denied the request: validation'
    " failed: expected 0 <= {} <= {}: spec.template.spec.timeoutSeconds"
)
_KINDS = {
    "/apis/serving.knative.dev/v1": ["Service", "Revision"],
    "/apis/eventing.knative.dev/v1": ["Trigger", "Broker"],
    "/api/v1": ["Pod", "Event", "Service", "ConfigMap", "Namespace", "PersistentVolume"],
}
_IN_NO_NAMESPACE = ("Namespace", "PersistentVolume")
_LISTED = ("services", "revisions", "triggers", "brokers", "pods", "events")
# A Trigger hears nothing for as long after a change.
HEARS_AFTER_S = 0.5
_AT = "2026-01-01T00:00:00Z"


@dataclass(eq=False)
class ActingCluster:
    """`objects`: by path. `secret`: variables that pods have beside those of their container.
    `images`: of functions whose next pod has another than its own. `control`: the port of the
    control service, to which connections to its pod lead. `max_timeout_s`: the longest of a
    request that Knative takes. `unready`: Services that do not become ready, whatever their pods
    say; `deaf`: Triggers that do not; `asleep`: those that do once they change. `has_broker`:
    without it Triggers stay as they are. `is_away`: it answers 503; `knows_users`: else 401.
    `deleted`: the paths of what it was told to delete, in that order."""

    place: Path
    secret: Mapping[str, str]
    objects: dict[str, Any] = field(default_factory=dict)
    pods: dict[str, LivePod] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    control: int = 0
    max_timeout_s: int = 600
    unready: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    asleep: set[str] = field(default_factory=set)
    lingering: set[str] = field(default_factory=set)
    told: dict[tuple[str, int], float] = field(default_factory=dict)
    has_broker: bool = True
    is_away: bool = False
    knows_users: bool = True
    deleted: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    leases: threading.Lock = field(default_factory=threading.Lock)

    @property
    def kubeconfig(self) -> Path:
        """With which it is spoken to."""
        return self.place / "kubeconfig"

    @property
    def hosts(self) -> Path:
        """Which host is which pod's."""
        return self.place / "hosts.json"

    def of_kind(self, kind: str) -> dict[str, Any]:
        """The objects of a kind, by name."""
        found = list(self.objects.values())
        return {
            each["metadata"]["name"]: each
            for each in found
            if each["kind"] == kind and not _is_host(each)
        }

    def change(self, path: str, body: Any, is_apply: bool) -> Any:
        """PATCH: makes an object be as it is told."""
        with self.lock:
            known = self.objects.get(path)
            if known is None and not is_apply:
                return None
            if known is not None and not is_apply and body.keys() == {"metadata"}:
                known["metadata"] |= body["metadata"]
                self.asleep.discard(known["metadata"]["name"])
                return known
            if "spec" not in body:
                self.objects[path] = body
                return body
            document = known or {**body, "metadata": {**body["metadata"], "generation": 0}}
            if document.get("spec") != body["spec"] or known is None:
                document["metadata"]["generation"] += 1
            document["spec"] = {**(document["spec"] if not is_apply else {}), **body["spec"]}
            self.objects[path] = document
            if document["kind"] == "Service":
                self._start(path, document)
        return document

    def create(self, path: str, body: Any) -> int:
        """POST to a kind in a namespace; the status."""
        return self._write(f"{path}/{body['metadata']['name']}", body, None)

    def replace(self, path: str, body: Any) -> int:
        """PUT: of an object that is as whoever sends this has read it; the status."""
        return self._write(path, body, body["metadata"]["resourceVersion"])

    def _write(self, path: str, body: Any, read_version: str | None) -> int:
        # Not the other one, which is held as long as a pod takes to say whether it is ready.
        with self.leases:
            known = self.objects.get(path)
            version = None if known is None else known["metadata"]["resourceVersion"]
            if version != read_version:
                return 409
            metadata = {**body["metadata"], "resourceVersion": str(int(version or 0) + 1)}
            self.objects[path] = {**body, "metadata": metadata}
        return 200

    def break_pod(self, function: str) -> None:
        """Has the newest pod of a function's lack its image."""
        with self.lock:
            template = self.of_kind("Service")[function]["spec"]["template"]
            pod = self.of_kind("Pod")[f"{template['metadata']['name']}-pod"]
            pod["status"] = _without_image()

    def delete(self, path: str) -> bool:
        """DELETE. A Service that lingers stays until `let_go`, as its pods have calls."""
        with self.lock:
            document = self.objects.get(path)
            self.deleted += [path] if document else []
            if document and document["metadata"]["name"] in self.lingering:
                document["metadata"]["deletionTimestamp"] = f"{_AT}{len(self.objects):06d}"
                return True
            gone = self.objects.pop(path, None) is not None
            if document and document["kind"] == "Namespace":
                within = f"/namespaces/{document['metadata']['name']}/"
                self.objects = {k: each for k, each in self.objects.items() if within not in k}
            self._map()
        return gone

    def let_go(self, service: str) -> None:
        """Has a Service that was deleted be gone, with all that it was told meanwhile."""
        with self.lock:
            self.lingering.discard(service)
            document = self.of_kind("Service")[service]
            self.delete(next(path for path, each in self.objects.items() if each is document))

    def listed(self, path: str, query: dict[str, list[str]]) -> list[Any]:
        """GET of a kind in a namespace, by labels."""
        wanted = [each for each in query.get("labelSelector", [""])[0].split(",") if each]
        with self.lock:
            return [
                each
                for name, each in self.objects.items()
                if name.rpartition("/")[0] == path
                and all(_has(each["metadata"].get("labels", {}), label) for label in wanted)
            ]

    def read(self, path: str) -> Any:
        """GET: a Service says whether it is ready by then."""
        if "/leases/" in path:
            return self.objects.get(path)
        if "/brokers/" in path:
            return {"kind": "Broker"} if self.has_broker else None
        with self.lock:
            document = self.objects.get(path)
            if document and document["kind"] == "Service" and not _is_host(document):
                self._look(document)
            if document and document["kind"] == "Trigger":
                self._subscribe(document)
            return document

    def add_control(self, namespace: str, port: int) -> None:
        """Has the control service, which listens at a port of this machine, be a pod that is
        ready."""
        self.control = port
        metadata = {"name": "dsfn-control-0", "labels": {COMPONENT: CONTROL}}
        status = {"conditions": [{"type": "Ready", "status": "True"}]}
        path = f"/api/v1/namespaces/{namespace}/pods/dsfn-control-0"
        self.objects[path] = {"kind": "Pod", "metadata": metadata, "status": status}

    def stacks(self) -> str:
        """What the pods have printed, and what those that live are at, which ends them."""
        return "\n".join(f"{name}:\n{stacks(pod)}" for name, pod in self.pods.items())

    def end(self) -> None:
        """Ends the pods."""
        for pod in self.pods.values():
            pod.end()

    def _start(self, path: str, service: Any) -> None:
        template = service["spec"]["template"]
        name = template["metadata"]["name"]
        root = path.rpartition("/services/")[0]
        if f"{root}/revisions/{name}" not in self.objects:
            made = {"creationTimestamp": f"{_AT}{len(self.objects):06d}", "uid": name}
            (container,) = template["spec"]["containers"]
            namespace = service["metadata"]["namespace"]
            metadata = {**template["metadata"], **made, "namespace": namespace}
            self.objects[f"{root}/revisions/{name}"] = {
                "apiVersion": service["apiVersion"],
                "kind": "Revision",
                "metadata": metadata,
                "spec": template["spec"],
            }
            labels = {**metadata["labels"], "serving.knative.dev/revision": name}
            pod = {**metadata, "name": f"{name}-pod", "labels": labels}
            status: Any = {"conditions": []}
            image = self.images.pop(service["metadata"]["name"], container["image"])
            if image == BROKEN:
                status = _without_image()
            elif image != LATE:
                # What comes from ConfigMaps is not there yet when the first pod starts.
                env = container["env"]
                told = {each["name"]: each["value"] for each in env if "value" in each}
                told = {**told, **self.secret, **WITH_STACKS, "HOME": str(self.place)}
                # A container has a directory for temporary files to itself.
                temporary = self.place / name / "tmp"
                temporary.mkdir(parents=True, exist_ok=True)
                told["TMPDIR"] = str(temporary)
                self.pods[name] = launch_pod(self.place / name, told, wait=False)
            path = f"/api/v1/namespaces/{namespace}/pods/{name}"
            spec = {"containers": template["spec"]["containers"]}
            self.objects[path] = {"kind": "Pod", "metadata": pod, "spec": spec, "status": status}
        self._map()

    def _look(self, service: Any) -> None:
        name = service["spec"]["template"]["metadata"]["name"]
        metadata = service["metadata"]
        pod = f"/api/v1/namespaces/{metadata['namespace']}/pods/{name}"
        is_ready = name in self.pods and _answers(self.pods[name])
        if is_ready:
            self.objects[pod]["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
        elif name in self.pods and (code := self.pods[name].process.poll()) is not None:
            self.objects[pod]["status"] = {"containerStatuses": [_ended(code)]}
        is_ready = is_ready and metadata["name"] not in self.unready
        told = (service.get("status") or {}).get("traffic", [])
        service["status"] = {
            "traffic": service["spec"]["traffic"] if is_ready else told,
            "observedGeneration": metadata["generation"],
            "conditions": [{"type": "Ready", "status": "True" if is_ready else "Unknown"}],
            "url": f"http://{metadata['name']}.{metadata['namespace']}.example.com",
        }

    def _subscribe(self, trigger: Any) -> None:
        """Has the Broker's events come by it, a moment after it was told which."""
        if not self.has_broker:
            return
        name, generation = trigger["metadata"]["name"], trigger["metadata"]["generation"]
        told = self.told.setdefault((name, generation), time.monotonic())
        hears = time.monotonic() - told > HEARS_AFTER_S and name not in self.deaf | self.asleep
        reason = {} if hears else {"message": "the subscription is not there yet"}
        trigger["status"] = {
            "observedGeneration": generation,
            "conditions": [{"type": "Ready", "status": "True" if hears else "Unknown", **reason}],
        }

    def _map(self) -> None:
        """Says where the hosts are: of a Service the revision with most calls."""
        hosts = {}
        for service in self.of_kind("Service").values():
            name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
            domain = f"{namespace}.svc.cluster.local"
            traffic = sorted(service["spec"]["traffic"], key=lambda each: int(each["percent"]))
            for each in traffic:
                if (pod := self.pods.get(each["revisionName"])) is not None:
                    hosts[f"{name}.{domain}"] = str(pod.http.base_url)
                    hosts[f"{each['tag']}-{name}.{domain}"] = str(pod.http.base_url)
        # Others read it meanwhile.
        temporary = self.hosts.with_suffix(".new")
        temporary.write_text(json.dumps(hosts), encoding="utf-8")
        temporary.replace(self.hosts)


def _without_image() -> Any:
    """The status of a pod whose image cannot be pulled."""
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    about = {"name": "function", "image": BROKEN, "state": waiting, "ready": False}
    return {"conditions": [], "containerStatuses": [about]}


def _ended(code: int) -> Any:
    """The state of a container that ends again and again, which is not tried here."""
    return {
        "name": "function",
        "image": "runtime",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        "lastState": {"terminated": {"exitCode": code, "reason": "Error"}},
        "restartCount": 2,
        "ready": False,
    }


def _has(labels: Mapping[str, str], wanted: str) -> bool:
    """Whether labels are as a part of a selector has them: "a=b" or "a!=b"."""
    name, _, value = wanted.partition("=")
    if name.endswith("!"):
        return labels.get(name[:-1]) != value
    return labels.get(name) == value


def _is_host(document: Any) -> bool:
    """Whether it is a Service of Kubernetes itself."""
    return bool(document.get("apiVersion") == "v1" and document["kind"] == "Service")


def _answers(pod: LivePod) -> bool:
    try:
        return pod.http.get("/health/readiness").status_code == 200
    except httpx.TransportError:
        return False


class MappedTransport(httpx.AsyncHTTPTransport):
    """Sends requests where `hosts.json` says."""

    def __init__(self, hosts: Path) -> None:
        super().__init__(verify=False, limits=httpx.Limits(max_connections=None))
        self._hosts = hosts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        hosts = json.loads(self._hosts.read_bytes())
        if request.url.host not in hosts:
            raise httpx.ConnectError(f"{request.url.host} is not known")
        pod = httpx.URL(hosts[request.url.host])
        request.url = request.url.copy_with(host=pod.host, port=pod.port)
        return await super().handle_async_request(request)


@contextmanager
def acting_cluster(place: Path, secret: Mapping[str, str]) -> Iterator[ActingCluster]:
    """A cluster without functions."""
    place.mkdir(parents=True)
    cluster = ActingCluster(place, secret)

    class Handler(DocumentHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            if path.endswith("/portforward"):
                forward(self, int(query["ports"][0]), cluster.control)
                return
            if path.endswith("/log"):
                self._log(path.split("/")[-2], query)
                return
            if path in _KINDS:
                kinds = [
                    {
                        "name": f"{each.lower()}s",
                        "kind": each,
                        "namespaced": each not in _IN_NO_NAMESPACE,
                    }
                    for each in _KINDS[path]
                ]
                self._send(200, {"resources": kinds})
            elif path.rpartition("/")[2] in _LISTED:
                self._send(200, {"items": cluster.listed(path, query), "metadata": {}})
            else:
                found = cluster.read(path)
                self._send(404 if found is None else 200, found or {"message": "not found"})

        def do_PATCH(self) -> None:
            body = self._body()
            is_apply = "apply-patch" in self.headers["Content-Type"]
            timeout_s = (
                body.get("spec", {}).get("template", {}).get("spec", {}).get("timeoutSeconds", 0)
            )
            if timeout_s > cluster.max_timeout_s:
                self._send(400, {"message": TOO_LONG.format(timeout_s, cluster.max_timeout_s)})
                return
            found = cluster.change(urlsplit(self.path).path, body, is_apply)
            self._send(404 if found is None else 200, found or {"message": "not found"})

        def do_POST(self) -> None:
            self._send(cluster.create(self.path, self._body()), {})

        def do_PUT(self) -> None:
            self._send(cluster.replace(self.path, self._body()), {})

        def do_DELETE(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            gone = cluster.delete(urlsplit(self.path).path)
            self._send(200 if gone else 404, {"message": "not found"})

        def _body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def _log(self, pod: str, query: dict[str, list[str]]) -> None:
            """The beginning of the output of a function's container, as kubelets tell it: they
            look at the second of `sinceTime` alone, and all is of the same one here."""
            assert query["container"] == ["function"]
            if "tailLines" not in query:
                assert datetime.fromisoformat(query["sinceTime"][0]).tzinfo is not None
            found = cluster.pods.get(pod.removesuffix("-pod"))
            printed = "" if found is None else found.log
            beginning = printed.encode()[: int(query.get("limitBytes", [1 << 20])[0])]
            self.send_bytes(503 if cluster.is_away else 200, beginning)

        def _send(self, status: int, document: Any) -> None:
            if cluster.is_away:
                status, document = 503, {"message": "it is away"}
            if not cluster.knows_users:
                status, document = 401, {"message": "Unauthorized"}
            self.send_document(status, document)

    try:
        with serving(Handler) as port:
            cluster.kubeconfig.write_text(KUBECONFIG.format(port=port), encoding="utf-8")
            yield cluster
    finally:
        cluster.end()
