"""The platform in a cluster: what is to be done to install it, whether it is well, its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from dsfn.functions.errors import ClusterRefused, MissingKinds, NotFound
from dsfn.knative.cluster.changes import Planned, plan
from dsfn.knative.cluster.objects import Objects, name_of
from dsfn.knative.cluster.readiness import is_ready, why_not
from dsfn.knative.cluster.waiting import Progress, wait_gone, wait_ready
from dsfn.knative.manifests.features import (
    FEATURES_NAME,
    FEATURES_NAMESPACE,
    Feature,
    enabling,
    missing_features,
)
from dsfn.knative.manifests.function import FUNCTION, SERVING
from dsfn.knative.manifests.platform import KINDS, namespace_of, platform_objects
from dsfn.knative.manifests.words import COMPONENT, DSFN, MANAGED_BY, Manifest

_OURS = {"labelSelector": f"{MANAGED_BY}={DSFN}"}
_FUNCTIONS = {"labelSelector": f"{MANAGED_BY}={DSFN},{COMPONENT}={FUNCTION}"}


@dataclass(frozen=True, slots=True)
class Plan:
    """`applied`: what is applied, in this order; `removed`: what an older version has left;
    `off`: Knative's feature flags that are off and stay so."""

    applied: tuple[Planned, ...]
    removed: tuple[Manifest, ...]
    off: tuple[Feature, ...]


@dataclass(frozen=True, slots=True)
class ObjectState:
    """`state`: "ready", "starting", "missing" or "changed"; `reason`: why it is not ready."""

    manifest: Manifest
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    """The platform in one namespace of a cluster. Everything raises `ClusterError`."""

    objects: Objects
    namespace: str

    def plan(self, enable_features: bool) -> Plan:
        """What is to be done for everything to be as this version has it.

        Raises `MissingKinds` without Knative, and `ClusterRefused` when a feature flag is off
        without which no function runs.
        """
        self.objects.require(SERVING, "Service")
        off = self.features_off()
        if not enable_features and (needed := [each for each in off if each.always]):
            raise ClusterRefused(
                f"Knative's feature flag {needed[0].flag} is off, without which it refuses"
                f" {needed[0].needed_for}: --enable-features switches it on.",
                object=f"ConfigMap/{FEATURES_NAME}",
                reason="a feature flag is off",
            )
        switched = (enabling(),) if enable_features and off else ()
        manifests = (*switched, *self._manifests())
        return Plan(
            applied=plan(self.objects, manifests),
            removed=tuple(self._left_over()),
            off=() if enable_features else off,
        )

    def carry_out(self, planned: Plan, deadline_s: float, progress: Progress) -> None:
        """Does what was planned, and returns when all of it is ready. Raises `NotReady`."""
        for each in planned.applied:
            if each.does_something:
                progress(f"applying {name_of(each.manifest)}")
                self.objects.apply(each.manifest)
        for left in planned.removed:
            progress(f"deleting {name_of(left)}")
            self.objects.delete(left)
        for each in planned.applied:
            wait_ready(self.objects, each.manifest, deadline_s, progress)

    def is_there(self) -> bool:
        """Whether any of it is installed."""
        return any(self.objects.read(each) is not None for each in self._manifests()[1:])

    def functions(self) -> tuple[str, ...]:
        """The names of the functions' Services in the namespace."""
        found = self._listed(SERVING, "Service", _FUNCTIONS)
        return tuple(each["metadata"]["name"] for each in found)

    def features_off(self) -> tuple[Feature, ...]:
        """Knative's feature flags that are off."""
        found = self.objects.read(enabling())
        if found is None:
            raise NotFound(
                f"There is no ConfigMap {FEATURES_NAME} in namespace {FEATURES_NAMESPACE}: Knative"
                " Serving is not installed there.",
                kind="ConfigMap",
                name=FEATURES_NAME,
            )
        return missing_features(found.get("data") or {})

    def states(self) -> Iterator[ObjectState]:
        """How each of its objects is."""
        for planned in plan(self.objects, self._manifests()):
            yield self._state_of(planned)

    def to_remove(self) -> tuple[Manifest, ...]:
        """All of it, last made first, with the functions; the namespace if dsfn made it."""
        services = [_named(SERVING, "Service", each, self.namespace) for each in self.functions()]
        ours = [each for kind in reversed(KINDS) for each in self._listed(*kind, _OURS)]
        namespace = (namespace_of(self.namespace),) if self._owns_namespace() else ()
        return (*services, *ours, *namespace)

    def remove(
        self, manifests: tuple[Manifest, ...], deadline_s: float, progress: Progress
    ) -> None:
        """Deletes these, one after the other. Raises `NotReady` for one that does not go."""
        for manifest in manifests:
            progress(f"deleting {name_of(manifest)}")
            if self.objects.delete(manifest):
                wait_gone(self.objects, manifest, deadline_s, progress)

    def _manifests(self) -> tuple[Manifest, ...]:
        """What is to be there. A namespace that somebody else made stays as it is."""
        namespace, *others = platform_objects(self.namespace)
        live = self.objects.read(namespace)
        return (*((namespace,) if live is None or _is_ours(live) else ()), *others)

    def _owns_namespace(self) -> bool:
        live = self.objects.read(namespace_of(self.namespace))
        return live is not None and _is_ours(live)

    def _state_of(self, planned: Planned) -> ObjectState:
        live = self.objects.read(planned.manifest)
        if live is None:
            return ObjectState(planned.manifest, "missing", "it is not there")
        if planned.changes:
            paths = ", ".join(change.path for change in planned.changes)
            return ObjectState(planned.manifest, "changed", f"somebody has changed {paths}")
        if not is_ready(live):
            return ObjectState(planned.manifest, "starting", why_not(live))
        return ObjectState(planned.manifest, "ready")

    def _left_over(self) -> Iterator[Manifest]:
        wanted = {(m["kind"], m["metadata"]["name"]) for m in platform_objects(self.namespace)}
        for kind in KINDS:
            for found in self._listed(*kind, _OURS):
                if (found["kind"], found["metadata"]["name"]) not in wanted:
                    yield found

    def _listed(self, api_version: str, kind: str, query: Mapping[str, str]) -> Iterator[Manifest]:
        # Where Knative was taken away before dsfn, its objects are gone, too.
        with suppress(MissingKinds):
            yield from self.objects.list(api_version, kind, self.namespace, query)


def _is_ours(live: Manifest) -> bool:
    return bool((live["metadata"].get("labels") or {}).get(MANAGED_BY) == DSFN)


def _named(api_version: str, kind: str, name: str, namespace: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
