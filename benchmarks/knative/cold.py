"""A cold call of a Knative Service, and when its pod came to what."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from kubernetes import client, config, watch

from benchmarks.knative.place import Place
from dsfn.runtime.model import Phases

# What the API server shows of a pod, in the order of time.
STEPS = ("activator", "schedule", "sandbox", "start")
# A pod goes half a minute after the last call, and its sidecar takes another to end.
ZERO_S = 300.0
SETTLE_S = 3.0
CALL_S = 120.0
LOOK_S = 30
_LABEL = "serving.knative.dev/service"


@dataclass(frozen=True, slots=True)
class Cold:
    """A call's time in milliseconds, and its phases: from the call to the pod (activator), to its
    node (schedule), to its network (sandbox), to its container (start), and to its answer, of which
    dsfn tells the parts."""

    total_ms: float
    phases_ms: Mapping[str, float]


@dataclass(eq=False)
class Seen:
    """When a new pod of a Service was first seen to have come to each step."""

    namespace: str
    service: str
    at_s: dict[str, float] = field(default_factory=dict)

    def look(self) -> None:
        """Looks on from now, in a thread that ends some time after the call."""
        api = config.new_client_from_config()
        found = client.CoreV1Api(api).list_namespaced_pod(
            self.namespace, label_selector=f"{_LABEL}={self.service}"
        )
        Thread(target=self._note, args=(api, found.metadata.resource_version), daemon=True).start()

    def _note(self, api: Any, since: str) -> None:
        events = watch.Watch().stream(
            client.CoreV1Api(api).list_namespaced_pod,
            self.namespace,
            label_selector=f"{_LABEL}={self.service}",
            resource_version=since,
            timeout_seconds=LOOK_S,
        )
        for event in events:
            pod = event["raw_object"]
            if "deletionTimestamp" not in pod["metadata"]:
                for step in _steps(pod):
                    self.at_s.setdefault(step, time.perf_counter())


def wait_for_zero(place: Place) -> None:
    """Returns once no Service has a pod, not even one that is about to go and would be in the way
    of the next, and the routes know. Raises `RuntimeError`."""
    end_s = time.monotonic() + ZERO_S
    query = {"labelSelector": _LABEL}
    while any(True for _ in place.objects.list("v1", "Pod", place.namespace, query)):
        if time.monotonic() > end_s:
            raise RuntimeError("Not all Services are scaled to zero.")
        time.sleep(0.5)
    time.sleep(SETTLE_S)


def cold_call(place: Place, service: Any, method: str, body: bytes | None) -> Cold:
    """Calls a Service that has no pod. Raises `RuntimeError` for a call that fails."""
    name, host = service["metadata"]["name"], urlsplit(service["status"]["url"]).netloc
    seen = Seen(place.namespace, name)
    seen.look()
    begin_s = time.perf_counter()
    timing = _call(place.gateway, host, method, body)
    end_s = time.perf_counter()
    return Cold((end_s - begin_s) * 1e3, _phases(begin_s, end_s, dict(seen.at_s), timing))


def _call(gateway: str, host: str, method: str, body: bytes | None) -> str:
    """What the answer's Server-Timing says."""
    connection = HTTPConnection(urlsplit(gateway).netloc, timeout=CALL_S)
    try:
        kind = {"Content-Type": "application/json"} if body else {}
        connection.request(method, "/", body, {"Host": host, **kind})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{host} answers {response.status}: {answer.decode()}")
        return response.headers.get("Server-Timing") or ""
    finally:
        connection.close()


def _phases(
    begin_s: float, end_s: float, seen_s: Mapping[str, float], timing: str
) -> dict[str, float]:
    """What passed until each step. The pod may answer before all of them are seen."""
    found, before_s = {}, begin_s
    for step in STEPS:
        at_s = min(max(seen_s.get(step, end_s), before_s), end_s)
        found[step], before_s = (at_s - before_s) * 1e3, at_s
    found["answer"] = (end_s - before_s) * 1e3
    told = Phases.from_server_timing(timing)
    if told.total_us:
        found["answer: imports, revision"] = found["answer"] - told.total_us / 1e3
        found["answer: replica"] = (told.queue_us + told.start_us) / 1e3
        found["answer: restore"] = told.restore_us / 1e3
        found["answer: execute"] = told.execute_us / 1e3
    return found


def _steps(pod: Any) -> list[str]:
    """Those that a pod has come to."""
    status = pod.get("status", {})
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    states = [
        each["state"]
        for each in status.get("containerStatuses", ())
        if each["name"] != "queue-proxy"
    ]
    has_come = (
        True,
        "nodeName" in pod["spec"],
        conditions.get("PodReadyToStartContainers") == "True",
        any("running" in state for state in states),
    )
    return [step for step, come in zip(STEPS, has_come, strict=True) if come]


def body_of(arguments: Mapping[str, object]) -> bytes:
    """What a function is called with."""
    return json.dumps(arguments).encode()
