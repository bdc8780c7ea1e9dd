"""What there is to know about an object that is not ready: its pods, their events and output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from dsfn.functions.errors import MissingRights
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.cluster.readiness import condition, is_current
from dsfn.knative.manifests.function import FUNCTION, SERVING
from dsfn.knative.manifests.trigger import EVENTING
from dsfn.knative.manifests.words import Manifest

_LINES = 20
_POD_LABEL = "serving.knative.dev/revision"
WITH_PODS = ("Deployment", "DaemonSet")
# By which a Deployment and its newest ReplicaSet know each other, and what that one's pods have.
_DEPLOYMENT_REVISION = "deployment.kubernetes.io/revision"
_TEMPLATE_HASH = "pod-template-hash"
# By which a DaemonSet and its newest pods know each other.
_DAEMON_GENERATION = "deprecated.daemonset.template.generation"
_TEMPLATE_GENERATION = "pod-template-generation"


@dataclass(frozen=True, slots=True)
class PodEvidence:
    """A pod, its events' messages from the oldest to the newest, and the last lines of that of its
    containers which does the work."""

    document: Manifest
    events: tuple[str, ...]
    log: str
    container: str = FUNCTION


@dataclass(frozen=True, slots=True)
class Evidence:
    """`document`: the object; `revision`: that of a Knative Service which is to come, None where
    there is none yet, and for others; `without`: the Broker that a Trigger names and that is not
    there."""

    document: Manifest
    revision: Manifest | None = None
    pods: tuple[PodEvidence, ...] = ()
    without: Manifest | None = None


def gather(objects: Objects, document: Manifest) -> Evidence:
    """Reads what there is to know. Raises `ClusterError`."""
    if document["kind"] in WITH_PODS:
        return Evidence(document, None, tuple(_of_template(objects, document)))
    if (document["apiVersion"], document["kind"]) == (EVENTING, "Trigger"):
        broker = _broker_of(document)
        return Evidence(document, without=broker if objects.read(broker) is None else None)
    if (document["apiVersion"], document["kind"]) != (SERVING, "Service"):
        return Evidence(document)
    name = _revision_name(document)
    if not name:
        return Evidence(document)
    namespace = document["metadata"]["namespace"]
    wanted = {"name": name, "namespace": namespace}
    revision = objects.read({"apiVersion": SERVING, "kind": "Revision", "metadata": wanted})
    pods = objects.list("v1", "Pod", namespace, with_labels({_POD_LABEL: name}))
    container = document["spec"]["template"]["spec"]["containers"][0].get("name", FUNCTION)
    return Evidence(document, revision, tuple(_about(objects, pod, container) for pod in pods))


def _broker_of(trigger: Manifest) -> Manifest:
    metadata = {"name": trigger["spec"]["broker"], "namespace": trigger["metadata"]["namespace"]}
    return {"apiVersion": EVENTING, "kind": "Broker", "metadata": metadata}


def _revision_name(service: Manifest) -> str:
    """That of the revision which is to come, "" while Knative has not named it. Where the template
    says it, the status may still be about the revision before."""
    told: str = service["spec"]["template"].get("metadata", {}).get("name", "")
    if told or not is_current(service):
        return told
    made: str = service["status"].get("latestCreatedRevisionName", "")
    return made


def _of_template(objects: Objects, document: Manifest) -> Iterator[PodEvidence]:
    """The pods that a Deployment or DaemonSet has made from what it says now and that are not
    ready. Those from what it said before fail for what may just have been mended."""
    if not is_current(document):
        return
    (container,) = document["spec"]["template"]["spec"]["containers"]
    selected = {**document["spec"]["selector"]["matchLabels"], **_newest(objects, document)}
    query = with_labels(selected)
    for pod in objects.list("v1", "Pod", document["metadata"]["namespace"], query):
        if condition(pod, "Ready").get("status") != "True":
            yield _about(objects, pod, container["name"])


def _newest(objects: Objects, document: Manifest) -> dict[str, str]:
    """The labels by which the newest pods differ from those before; none where whoever asks may
    not know."""
    metadata = document["metadata"]
    if document["kind"] == "DaemonSet":
        generation = _annotation(document, _DAEMON_GENERATION)
        return {_TEMPLATE_GENERATION: generation} if generation else {}
    query = with_labels(document["spec"]["selector"]["matchLabels"])
    newest = _annotation(document, _DEPLOYMENT_REVISION)
    with suppress(MissingRights):
        for each in objects.list("apps/v1", "ReplicaSet", metadata["namespace"], query):
            owners = {owner["uid"] for owner in each["metadata"].get("ownerReferences", ())}
            if metadata["uid"] in owners and _annotation(each, _DEPLOYMENT_REVISION) == newest:
                return {_TEMPLATE_HASH: each["metadata"]["labels"][_TEMPLATE_HASH]}
    return {}


def _annotation(document: Manifest, name: str) -> str:
    found: str = (document["metadata"].get("annotations") or {}).get(name, "")
    return found


def with_labels(wanted: Mapping[str, str]) -> dict[str, str]:
    """The query for objects that have all of these."""
    return {"labelSelector": ",".join(f"{name}={value}" for name, value in wanted.items())}


def _about(objects: Objects, pod: Manifest, container: str) -> PodEvidence:
    metadata = pod["metadata"]
    query = {"fieldSelector": f"involvedObject.uid={metadata['uid']}"}
    events = [*objects.list("v1", "Event", metadata["namespace"], query)]
    events.sort(key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")
    log = objects.last_lines(metadata["namespace"], metadata["name"], container, _LINES)
    messages = tuple(str(each.get("message", "")) for each in events)
    return PodEvidence(pod, messages, log, container)
