"""What there is to know about an object that is not ready: its pods, their events and output."""

from __future__ import annotations

from dataclasses import dataclass

from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.function import FUNCTION, SERVING
from dsfn.knative.manifests.words import Manifest

_LINES = 20
_POD_LABEL = "serving.knative.dev/revision"


@dataclass(frozen=True, slots=True)
class PodEvidence:
    """A pod, its events' messages from the oldest to the newest, and its container's last lines."""

    document: Manifest
    events: tuple[str, ...]
    log: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """`document`: the object; `revision`: that of a Knative Service which is to come, None where
    there is none yet, and for others."""

    document: Manifest
    revision: Manifest | None = None
    pods: tuple[PodEvidence, ...] = ()


def gather(objects: Objects, document: Manifest) -> Evidence:
    """Reads what there is to know. Raises `ClusterError`."""
    if (document["apiVersion"], document["kind"]) != (SERVING, "Service"):
        return Evidence(document)
    # Its status may still be about the revision before.
    name = document["spec"]["template"]["metadata"]["name"]
    namespace = document["metadata"]["namespace"]
    wanted = {"name": name, "namespace": namespace}
    revision = objects.read({"apiVersion": SERVING, "kind": "Revision", "metadata": wanted})
    query = {"labelSelector": f"{_POD_LABEL}={name}"}
    pods = objects.list("v1", "Pod", namespace, query)
    return Evidence(document, revision, tuple(_about(objects, pod) for pod in pods))


def _about(objects: Objects, pod: Manifest) -> PodEvidence:
    metadata = pod["metadata"]
    query = {"fieldSelector": f"involvedObject.uid={metadata['uid']}"}
    events = [*objects.list("v1", "Event", metadata["namespace"], query)]
    events.sort(key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")
    log = objects.last_lines(metadata["namespace"], metadata["name"], FUNCTION, _LINES)
    return PodEvidence(pod, tuple(str(each.get("message", "")) for each in events), log)
