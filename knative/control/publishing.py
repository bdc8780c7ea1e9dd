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
from dsfn.knative.manifests.function import SERVING, ServiceSettings, function_service
from dsfn.knative.manifests.images import image_with
from dsfn.knative.manifests.proof import proof
from dsfn.knative.manifests.traffic import Target, tag_of, traffic_of
from dsfn.knative.manifests.words import Manifest
from dsfn.knative.pod.publication import publish
from dsfn.knative.pod.store import Store
from dsfn.runtime.model import Revision
from dsfn.snapshots.store import FileStore


@dataclass(frozen=True, slots=True)
class Placed:
    """A revision that the cluster has been told of. `before`: the Service as it was, None where
    there was none; `is_new`: whether the cluster did not have the revision."""

    revision: Revision
    service: Manifest
    before: Manifest | None
    is_new: bool

    @property
    def name(self) -> str:
        """What Knative calls the revision."""
        name: str = self.service["spec"]["template"]["metadata"]["name"]
        return name

    @property
    def knative_revision(self) -> Manifest:
        """The name of Knative's revision, as an object."""
        metadata = {"name": self.name, "namespace": self.service["metadata"]["namespace"]}
        return {"apiVersion": SERVING, "kind": "Revision", "metadata": metadata}


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

    def place(self, revision: Revision) -> Placed:
        """Has the cluster start a revision. Raises `StoreUnavailable`, `ClusterError`,
        `DefinitionError` for a timeout that Knative does not take, and `CorruptSnapshot`,
        `NotFound` for a snapshot that is damaged or gone."""
        publication = publish(
            revision, self.bundles, self.snapshots, self.store, self.transfer_timeout_s
        )
        image = image_with(self.settings.image, self.requirements(revision.environment))
        service = function_service(revision, publication, replace(self.settings, image=image))
        before = self.objects.read(service)
        placed = Placed(revision, service, before, is_new=True)
        if before is not None and self.objects.read(placed.knative_revision) is not None:
            placed = replace(placed, is_new=False)
        service["spec"]["traffic"] = _traffic(before, placed.name)
        try:
            self.objects.apply(service)
        except ClusterRefused as error:
            require_timeout_taken(error, revision)
            raise
        return placed

    def awaited(self, placed: Placed, tell: Progress) -> Awaited:
        """The Service, which is ready once the revision is."""
        return Awaited(self.objects, placed.service, time.monotonic() + self.deadline_s, tell)

    def prove(self, placed: Placed) -> None:
        """Has the pods of a revision that has become ready know so. Raises `ClusterError`."""
        revision = self.objects.read(placed.knative_revision)
        if revision is not None:
            self.objects.apply(proof(revision))

    def put_back(self, placed: Placed) -> None:
        """Has the Service be as it was, without pods that begin again and again. Raises
        `ClusterError`."""
        before = placed.before
        if before is None:
            self.objects.delete(placed.service)
            return
        spec = {name: before["spec"][name] for name in ("template", "traffic")}
        metadata = placed.service["metadata"]
        self.objects.apply({**placed.service, "metadata": metadata, "spec": spec})
        if placed.is_new:
            self.objects.delete(placed.knative_revision)


def _traffic(before: Manifest | None, name: str) -> list[Manifest]:
    """The traffic as it is, all where there is none: the ingress is told of a revision once, when
    that is ready and goes live, since each change of it takes a third of a second."""
    if before is None:
        return traffic_of((Target(100, name, tag_of(name)),))
    traffic: list[Manifest] = before["spec"]["traffic"]
    return traffic
