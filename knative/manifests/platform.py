"""Everything that `dsfn platform install` puts into a cluster, in the order in which it does."""

from __future__ import annotations

from dsfn.knative.manifests.accounts import accounts, roles
from dsfn.knative.manifests.network import network_policies
from dsfn.knative.manifests.trigger import EVENTING
from dsfn.knative.manifests.words import DSFN, Manifest, labels

PLATFORM = "platform"
BROKER = "dsfn"
MAX_SERVICES = 1000
MAX_PODS = 4000

# Beside the objects of a platform there are those of its functions; these kinds are only ours.
KINDS = (
    ("v1", "ServiceAccount"),
    ("v1", "ResourceQuota"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    (EVENTING, "Broker"),
)


def platform_objects(namespace: str) -> tuple[Manifest, ...]:
    """The platform's objects, its namespace first."""
    return (
        namespace_of(namespace),
        _quota(namespace),
        *accounts(namespace),
        *roles(namespace),
        *network_policies(namespace),
        _broker(namespace),
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
