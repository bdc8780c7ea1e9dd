"""The platform in a cluster: what is to be done to install it, whether it is well, its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from dsfn.functions.errors import MissingKinds, MissingRights, NotFound
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.changes import Planned, plan
from dsfn.knative.cluster.leading import lease_of, wait_led, why_nobody_leads
from dsfn.knative.cluster.objects import Objects, name_of
from dsfn.knative.cluster.readiness import is_ready, why_not
from dsfn.knative.cluster.told import Told, platform_settings, require_complete
from dsfn.knative.cluster.waiting import Progress, wait_gone, wait_ready
from dsfn.knative.manifests.accounts import accounts
from dsfn.knative.manifests.agent import agents_namespace_of, agents_volume
from dsfn.knative.manifests.features import (
    AGENTS_FEATURE,
    FEATURES_NAME,
    FEATURES_NAMESPACE,
    Feature,
    enabling,
    missing_features,
)
from dsfn.knative.manifests.function import FUNCTION, SERVING
from dsfn.knative.manifests.network import agents_namespace
from dsfn.knative.manifests.platform import (
    AGENT_KINDS,
    KINDS,
    namespace_of,
    platform_objects,
)
from dsfn.knative.manifests.settings import PlatformSettings
from dsfn.knative.manifests.trigger import EVENTING
from dsfn.knative.manifests.words import COMPONENT, DSFN, MANAGED_BY, Manifest

# What Knative makes for a function has the function's labels.
_OURS = {"labelSelector": f"{MANAGED_BY}={DSFN},{COMPONENT}!={FUNCTION}"}
_FUNCTIONS = {"labelSelector": f"{MANAGED_BY}={DSFN},{COMPONENT}={FUNCTION}"}
# What people make in a namespace, and would miss.
_MADE_BY_HAND = (
    (SERVING, "Service"),
    (EVENTING, "Trigger"),
    (EVENTING, "Broker"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "CronJob"),
    ("v1", "PersistentVolumeClaim"),
)


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

    def plan(self, told: Told, enable_features: bool) -> Plan:
        """What is to be done for everything to be as this version has it, and as it is `told`.

        Raises `UsageError` when it was never told what it must know, and `MissingKinds` without
        Knative.
        """
        self.objects.require(SERVING, "Service")
        off = self.features_off()
        switched = (enabling(),) if enable_features and off else ()
        stay_off = () if enable_features else off
        settings = self._settings(told, stay_off)
        require_complete(settings)
        manifests = (*switched, *self._manifests(settings))
        return Plan(
            applied=plan(self.objects, manifests),
            removed=tuple(self._left_over(settings)),
            off=stay_off,
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
        wait_led(self.objects, self.namespace, deadline_s, progress)

    def is_there(self) -> bool:
        """Whether any of it is installed."""
        return any(self.objects.read(each) is not None for each in accounts(self.namespace))

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
        """How each of its objects is, and whether the control service has a leader."""
        settings = self._settings(Told(), self.features_off())
        for planned in plan(self.objects, self._manifests(settings)):
            yield self._state_of(planned)
        lease, reason = lease_of(self.namespace), why_nobody_leads(self.objects, self.namespace)
        yield ObjectState(lease, "starting" if reason else "ready", reason)

    def to_remove(self) -> tuple[Manifest, ...]:
        """All of it, last made first, with the functions, and what calls those before them; the
        namespace if dsfn made it."""
        triggers = self._listed(EVENTING, "Trigger", _FUNCTIONS)
        services = [_named(SERVING, "Service", each, self.namespace) for each in self.functions()]
        ours = [each for kind in reversed(KINDS) for each in self._listed(*kind, _OURS)]
        volume, agents = agents_volume(self.namespace), agents_namespace_of(self.namespace)
        namespaces = [each for each in (agents, namespace_of(self.namespace)) if self._owns(each)]
        volumes = [volume] if self.objects.read(volume) is not None else []
        return (*triggers, *services, *ours, *volumes, *namespaces)

    def of_others(self, manifests: Iterable[Manifest]) -> tuple[Manifest, ...]:
        """What somebody else has made, and goes with the namespaces among these. Not told is what
        belongs to something else, and what whoever asks may not see."""
        going = [each["metadata"]["name"] for each in manifests if each["kind"] == "Namespace"]
        return tuple(
            each
            for namespace in going
            for api_version, kind in _MADE_BY_HAND
            for each in self._visible(api_version, kind, namespace)
            if not _is_ours(each) and not each["metadata"].get("ownerReferences")
        )

    def remove(
        self,
        manifests: tuple[Manifest, ...],
        deadline_s: float,
        progress: Progress,
        with_grace: bool = False,
    ) -> None:
        """Deletes these, and waits: for the functions together, then for one after the other, at
        last for the namespaces together. `with_grace`: for pods for as long as they may take.
        Raises `NotReady` for one that does not go."""
        for group in _groups(manifests):
            # Functions wait for their last calls, namespaces for what is left in them.
            going = [each for each in group if self.objects.delete(each)]
            for each in going:
                progress(f"deleting {name_of(each)}")
                wait_gone(self.objects, each, deadline_s, progress, with_grace)

    def _settings(self, told: Told, off: tuple[Feature, ...]) -> PlatformSettings:
        """Functions use agents, and so there are some, where Knative lets them."""
        agents = AGENTS_FEATURE not in off
        return platform_settings(self.objects, self.namespace, told, agents)

    def _manifests(self, settings: PlatformSettings) -> tuple[Manifest, ...]:
        """What is to be there. A namespace that somebody else made stays as it is."""
        return tuple(
            each
            for each in platform_objects(settings)
            if each["kind"] != "Namespace" or self._is_free(each)
        )

    def _is_free(self, namespace: Manifest) -> bool:
        live = self.objects.read(namespace)
        return live is None or _is_ours(live)

    def _owns(self, namespace: Manifest) -> bool:
        live = self.objects.read(namespace)
        return live is not None and _is_ours(live)

    def _state_of(self, planned: Planned) -> ObjectState:
        live = self.objects.read(planned.manifest)
        if live is None:
            return ObjectState(planned.manifest, "missing", "it is not there")
        if planned.changes:
            found = ", ".join(change.undone().line for change in planned.changes)
            return ObjectState(planned.manifest, "changed", f"somebody has changed {found}")
        if not is_ready(live):
            return ObjectState(planned.manifest, "starting", why_not(live))
        return ObjectState(planned.manifest, "ready")

    def _left_over(self, settings: PlatformSettings) -> Iterator[Manifest]:
        wanted = {_key(each) for each in platform_objects(settings)}
        agents = agents_namespace(self.namespace)
        found = [each for kind in KINDS for each in self._listed(*kind, _OURS)]
        found += [each for kind in AGENT_KINDS for each in self._listed(*kind, _OURS, agents)]
        yield from (each for each in found if _key(each) not in wanted)

    def _listed(
        self, api_version: str, kind: str, query: Mapping[str, str], namespace: str = ""
    ) -> Iterator[Manifest]:
        # Where Knative was taken away before dsfn, its objects are gone, too.
        with suppress(MissingKinds):
            yield from self.objects.list(api_version, kind, namespace or self.namespace, query)

    def _visible(self, api_version: str, kind: str, namespace: str) -> Iterator[Manifest]:
        with suppress(MissingRights):
            yield from self._listed(api_version, kind, {}, namespace)


def _groups(manifests: Sequence[Manifest]) -> Iterator[Sequence[Manifest]]:
    """Those that may go at the same time."""
    triggers = [each for each in manifests if each["kind"] == "Trigger"]
    functions = [each for each in manifests if each["apiVersion"] == SERVING]
    namespaces = [each for each in manifests if each["kind"] == "Namespace"]
    together = (*triggers, *functions, *namespaces)
    yield triggers
    yield functions
    yield from ([each] for each in manifests if each not in together)
    yield namespaces


def _is_ours(live: Manifest) -> bool:
    return bool((live["metadata"].get("labels") or {}).get(MANAGED_BY) == DSFN)


def _key(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def _named(api_version: str, kind: str, name: str, namespace: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
