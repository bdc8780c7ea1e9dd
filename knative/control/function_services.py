"""The functions' Services and Triggers in the cluster: who gets calls, and what there is.

The cluster itself is asked what Knative calls the revisions: they say whose they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field

from dsfn.functions.errors import ClusterError, NotFound
from dsfn.functions.interface import FilterInterface
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.objects import Objects, is_about
from dsfn.knative.cluster.readiness import is_ready
from dsfn.knative.cluster.waiting import require_possible, wait_ready
from dsfn.knative.manifests.function import FUNCTION, SERVING
from dsfn.knative.manifests.proof import name_of_proved
from dsfn.knative.manifests.traffic import Target, tag_of, traffic_of
from dsfn.knative.manifests.trigger import EVENTING, NOTHING, DeadLetterSink, trigger
from dsfn.knative.manifests.words import (
    COMPONENT,
    FUNCTION_LABEL,
    REMINDED_ANNOTATION,
    REVISION_ANNOTATION,
    Manifest,
    service_name,
)
from dsfn.runtime.model import Revision

_OURS = {"labelSelector": f"{COMPONENT}={FUNCTION}"}
_REVISION_LABEL = "serving.knative.dev/revision"


@dataclass(frozen=True, slots=True)
class Share:
    """Who gets the calls of a function. `current`: the revision whose options are the function's;
    `targets`: what Knative calls each revision, with its percent; those with none are for calls
    that name them. `filters`: which of the Broker's events call it."""

    current: Revision
    targets: tuple[tuple[str, int], ...]
    filters: tuple[FilterInterface, ...] = ()


@dataclass(frozen=True, slots=True)
class PodOf:
    """A pod of a function. `revision`: its id, or what Knative calls one that is not dsfn's, and
    says so."""

    name: str
    function: str
    revision: str
    is_ready: bool


@dataclass(eq=False)
class FunctionServices:
    """What the cluster has of functions. `dead_letters`: where those of a function go; `names`:
    what Knative calls revisions, by their ids; `urls`: of the Services, by function; `tagged`:
    those of Knative's names that have a host of their own, by function. All calls but `address`
    block."""

    objects: Objects
    namespace: str
    broker: str
    dead_letters: Callable[[str], DeadLetterSink]
    domain: str = "svc.cluster.local"
    names: dict[str, str] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    tagged: dict[str, frozenset[str]] = field(default_factory=dict)

    def load(self) -> None:
        """Reads what is there. Raises `ClusterError`."""
        found = sorted(
            self.objects.list(SERVING, "Revision", self.namespace, _OURS),
            key=lambda each: str(each["metadata"]["creationTimestamp"]),
        )
        for each in found:
            name = str(each["metadata"]["name"])
            if (revision := _revision_of(name, each)) is not None:
                self.names[revision] = name
        for each in self.objects.list(SERVING, "Service", self.namespace, _OURS):
            self.note(each["metadata"]["labels"].get(FUNCTION_LABEL, ""), each)

    def address(self, revision: Revision) -> str | None:
        """The URL at which a revision is called inside the cluster: its own, or that of its
        function, where the cluster is not known to have it. None while the cluster has it, and the
        ingress does not know of it."""
        service = service_name(revision.function)
        name = self.names.get(revision.id)
        if name is not None and name not in self.tagged.get(revision.function, frozenset()):
            return None
        host = service if name is None else f"{tag_of(name)}-{service}"
        return f"http://{host}.{self.namespace}.{self.domain}/"

    def note(self, function: str, service: Manifest) -> None:
        """Remembers where a function and its revisions are called."""
        status = service.get("status") or {}
        self.urls[function] = str(status.get("url", ""))
        self.tagged[function] = frozenset(
            str(each["revisionName"]) for each in status.get("traffic", ()) if each.get("tag")
        )

    def tell(self, share: Share) -> None:
        """Has calls and events be shared out so, once the Service is ready. Raises `ClusterError`,
        `NotFound`."""
        function = share.current.function
        targets = tuple(Target(percent, name, tag_of(name)) for name, percent in share.targets)
        service = self._object(SERVING, "Service", function)
        self.objects.change(service, {"spec": {"traffic": traffic_of(targets)}})
        events = self._trigger(share)
        if events is None:
            self.objects.delete(self._object(EVENTING, "Trigger", function))
        else:
            self.objects.apply(events)

    def is_ready(self, share: Share) -> bool:
        """Whether a function's Service and its Trigger do what they were told: what the Broker
        takes before that is not heard. Raises `ClusterError`, `NotFound`."""
        function = share.current.function
        manifest = self._object(SERVING, "Service", function)
        if (service := self.objects.read(manifest)) is None:
            self._forget(function)
            raise NotFound(f"{is_about(manifest)} is gone.", kind="Service")
        if not is_ready(service):
            return False
        self.note(function, service)
        events = self._trigger(share)
        if events is None:
            return True
        heard = self.objects.read(events)
        return heard is not None and is_ready(heard)

    def require_ready(self, share: Share) -> None:
        """Raises `NotReady` with the reason, `ClusterError`, `NotFound`."""
        function = share.current.function
        service = self._object(SERVING, "Service", function)
        self.note(function, wait_ready(self.objects, service, 0.0, lambda _: None))
        if (events := self._trigger(share)) is not None:
            wait_ready(self.objects, events, 0.0, lambda _: None)

    def silent_trigger(self, revision: Revision) -> Manifest | None:
        """What can become ready before the revision is live: what serves until then is not to get
        events that it does not know. None where no event calls the revision."""
        if not revision.interface.triggers:
            return None
        sink = self.dead_letters(revision.function)
        return trigger(revision, (NOTHING,), self.namespace, self.broker, sink)

    def require_events(self, revision: Revision) -> None:
        """Raises `NotReady` where the events that call the revision cannot reach it: without a
        Broker its Trigger would wait for ever. `ClusterError`."""
        if (events := self.silent_trigger(revision)) is not None:
            require_possible(self.objects, events)

    def remind(self, events: Manifest, number: int) -> None:
        """Has Knative look at a Trigger again, by a change that says nothing. Where that cannot be
        done it looks later."""
        with suppress(ClusterError, NotFound):
            about = {"annotations": {REMINDED_ANNOTATION: str(number)}}
            self.objects.change(events, {"metadata": about})

    def is_going(self, function: str) -> bool:
        """Whether the Service of a function that was deleted is still there: what it is told is
        lost with it. Raises `ClusterError`."""
        found = self.objects.read(self._object(SERVING, "Service", function))
        return found is not None and "deletionTimestamp" in found["metadata"]

    def remove(self, function: str) -> None:
        """Takes a function out of the cluster. Raises `ClusterError`."""
        self.objects.delete(self._object(EVENTING, "Trigger", function))
        self.objects.delete(self._object(SERVING, "Service", function))
        self._forget(function)

    def pods(self) -> list[PodOf]:
        """The functions' pods. Raises `ClusterError`."""
        pods = self.objects.list("v1", "Pod", self.namespace, _OURS)
        return [_pod_of(pod) for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def _trigger(self, share: Share) -> Manifest | None:
        """None where no event calls the function."""
        sink = self.dead_letters(share.current.function)
        return trigger(share.current, share.filters, self.namespace, self.broker, sink)

    def _forget(self, function: str) -> None:
        self.urls.pop(function, None)
        self.tagged.pop(function, None)

    def _object(self, api_version: str, kind: str, function: str) -> Manifest:
        metadata = {"name": service_name(function), "namespace": self.namespace}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _pod_of(pod: Manifest) -> PodOf:
    metadata, labels = pod["metadata"], pod["metadata"]["labels"]
    named = labels.get(_REVISION_LABEL, "")
    revision = _revision_of(named, pod) or f"{named} (not dsfn's)".lstrip()
    is_ready = _is_ready(pod.get("status") or {})
    return PodOf(str(metadata["name"]), labels.get(FUNCTION_LABEL, ""), revision, is_ready)


def _revision_of(name: str, manifest: Manifest) -> str | None:
    """The id of the revision that Knative calls `name`, by the manifest of that or of a pod of it;
    None where it is not dsfn's.

    Whoever changes the template of a Service gets a revision with the same annotation and, as
    Knative wants that, another name. Its pods read the proof of the one that dsfn has made.
    """
    id_ = (manifest["metadata"].get("annotations") or {}).get(REVISION_ANNOTATION)
    made = name_of_proved((manifest.get("spec") or {}).get("containers") or ())
    return None if id_ is None or made not in (name, None) else str(id_)


def _is_ready(status: Mapping[str, object]) -> bool:
    conditions = status.get("conditions") or []
    assert isinstance(conditions, list)
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
