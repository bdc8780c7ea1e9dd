"""A revision's way into the cluster: to the store, then beside what serves, until it is ready.

It takes no calls there before it is live. What serves goes on meanwhile, and after a failure all is
as it was. Everything here blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dsfn.functions.errors import ClusterRefused
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.cluster.waiting import Awaited, Progress
from dsfn.knative.control.refusing import require_free_name, require_timeout_taken
from dsfn.knative.manifests.function import (
    SERVING,
    ServiceSettings,
    function_service,
    service_of,
)
from dsfn.knative.manifests.images import image_with
from dsfn.knative.manifests.proof import proof
from dsfn.knative.manifests.traffic import Target, tag_of, traffic_of
from dsfn.knative.manifests.words import Manifest
from dsfn.knative.pod.publication import publish
from dsfn.knative.pod.store import Store
from dsfn.runtime.model import Revision
from dsfn.snapshots.store import FileStore


@dataclass(frozen=True, slots=True)
class Former:
    """How a function is in the cluster before a revision is brought there.

    `revision`: the id of that one. `spec`: the Service's template and traffic, None where there is
    no Service. `fresh`: what Knative is going to call the revision, None where it has that already.
    """

    function: str
    revision: str
    spec: Manifest | None
    fresh: str | None


@dataclass(frozen=True, slots=True)
class Placed:
    """A revision that the cluster is told of."""

    revision: Revision
    service: Manifest
    former: Former

    @property
    def name(self) -> str:
        """What Knative calls the revision."""
        name: str = self.service["spec"]["template"]["metadata"]["name"]
        return name

    @property
    def knative_revision(self) -> Manifest:
        """The name of Knative's revision, as an object."""
        return _knative_revision(self.name, self.service["metadata"]["namespace"])


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes revisions of `bundles` and `snapshots` to the store and the cluster.
    `requirements`: those of an environment; `deadline_s`: how long one may take to become ready."""

    objects: Objects
    store: Store
    settings: ServiceSettings
    bundles: Path
    snapshots: FileStore
    requirements: Callable[[str], tuple[str, ...]]
    transfer_timeout_s: float
    deadline_s: float

    def require_free_name(self, function: str) -> None:
        """Raises `DefinitionError` where something else has the name that the function's Service
        would, and `ClusterError`."""
        require_free_name(self.objects, self.settings.namespace, function)

    def prepare(self, revision: Revision) -> Placed:
        """Has the store get a revision; what the cluster is to be told. Raises `StoreUnavailable`,
        `ClusterError`, and `CorruptSnapshot`, `NotFound` for a snapshot that is damaged or gone."""
        publication = publish(
            revision, self.bundles, self.snapshots, self.store, self.transfer_timeout_s
        )
        image = image_with(self.settings.image, self.requirements(revision.environment))
        service = function_service(revision, publication, replace(self.settings, image=image))
        name = service["spec"]["template"]["metadata"]["name"]
        spec, fresh = None, name
        if (before := self.objects.read(service)) is not None:
            spec = {part: before["spec"][part] for part in ("template", "traffic")}
            known = self.objects.read(_knative_revision(name, self.settings.namespace))
            fresh = name if known is None else None
        service["spec"]["traffic"] = _traffic(spec, name)
        return Placed(revision, service, Former(revision.function, revision.id, spec, fresh))

    def place(self, placed: Placed) -> None:
        """Has the cluster start a revision. Raises `ClusterError`, and `DefinitionError` for a
        timeout that Knative does not take."""
        try:
            self.objects.apply(placed.service)
        except ClusterRefused as error:
            require_timeout_taken(error, placed.revision)
            raise

    def awaited(self, placed: Placed, tell: Progress) -> Awaited:
        """The Service, which is ready once the revision is."""
        return Awaited(self.objects, placed.service, time.monotonic() + self.deadline_s, tell)

    def prove(self, placed: Placed) -> None:
        """Has the pods of a revision that has become ready know so. Raises `ClusterError`."""
        revision = self.objects.read(placed.knative_revision)
        if revision is not None:
            self.objects.apply(proof(revision))

    def put_back(self, former: Former) -> None:
        """Has a function be as it was, without pods that begin again and again. Raises
        `ClusterError`."""
        namespace = self.settings.namespace
        service = service_of(former.function, namespace)
        if former.spec is None:
            self.objects.delete(service)
            return
        self.objects.apply({**service, "spec": former.spec})
        if former.fresh is not None:
            self.objects.delete(_knative_revision(former.fresh, namespace))


def _knative_revision(name: str, namespace: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": SERVING, "kind": "Revision", "metadata": metadata}


def _traffic(spec: Manifest | None, name: str) -> list[Manifest]:
    """The traffic as it is, all where there is none: the ingress is told of a revision once, when
    that is ready and goes live, since each change of it takes a third of a second."""
    if spec is None:
        return traffic_of((Target(100, name, tag_of(name)),))
    traffic: list[Manifest] = spec["traffic"]
    return traffic
