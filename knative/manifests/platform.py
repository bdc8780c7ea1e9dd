"""Everything that `dsfn platform install` puts into a cluster, in the order in which it does."""

from __future__ import annotations

from dsfn.knative.manifests.accounts import accounts, roles
from dsfn.knative.manifests.agent import (
    AGENT_NAME,
    AgentSettings,
    agent_objects,
    agents_namespace_of,
)
from dsfn.knative.manifests.control import control_objects, control_url
from dsfn.knative.manifests.network import network_policies
from dsfn.knative.manifests.secrets import digest_of, secret_objects
from dsfn.knative.manifests.settings import PlatformSettings
from dsfn.knative.manifests.trigger import EVENTING
from dsfn.knative.manifests.words import DSFN, Manifest, labels

PLATFORM = "platform"
BROKER = "dsfn"
MAX_SERVICES = 1000
MAX_PODS = 4000

# Of these kinds there are objects of the platform in its namespace, and in that of its agents.
# Knative makes some of them for functions, which have a function's labels.
KINDS = (
    ("v1", "ServiceAccount"),
    ("v1", "ResourceQuota"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "Secret"),
    (EVENTING, "Broker"),
    ("apps/v1", "Deployment"),
    ("v1", "Service"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "PersistentVolumeClaim"),
)
AGENT_KINDS = (
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "Secret"),
    ("apps/v1", "DaemonSet"),
    ("v1", "Service"),
)


def platform_objects(settings: PlatformSettings) -> tuple[Manifest, ...]:
    """The platform's objects, its namespaces first."""
    namespace = settings.namespace
    return (
        namespace_of(namespace),
        *((agents_namespace_of(namespace),) if settings.agents else ()),
        _quota(namespace),
        *accounts(namespace),
        *roles(namespace),
        *network_policies(namespace),
        *secret_objects(settings),
        _broker(namespace),
        *control_objects(settings),
        *(_agents(settings) if settings.agents else ()),
    )


def namespace_of(name: str) -> Manifest:
    """The namespace, which takes no pod that is not restricted."""
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {**labels(PLATFORM), **enforced}},
    }


def _quota(namespace: str) -> Manifest:
    hard = {
        "pods": str(MAX_PODS),
        "count/services.serving.knative.dev": str(MAX_SERVICES),
        "count/triggers.eventing.knative.dev": str(MAX_SERVICES),
    }
    return _object("v1", "ResourceQuota", DSFN, namespace, {"hard": hard})


def _agents(settings: PlatformSettings) -> tuple[Manifest, ...]:
    return agent_objects(
        AgentSettings(
            settings.namespace,
            settings.image,
            settings.store,
            control_url(settings.namespace),
            AGENT_NAME,
            digest_of(settings.secrets),
            settings.prefetch,
        )
    )


def _broker(namespace: str) -> Manifest:
    """Of the class that the cluster has by default."""
    return _object(EVENTING, "Broker", BROKER, namespace, None)


def _object(
    api_version: str, kind: str, name: str, namespace: str, spec: Manifest | None
) -> Manifest:
    found = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels(PLATFORM)},
    }
    return found if spec is None else {**found, "spec": spec}
