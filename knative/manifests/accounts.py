"""Who acts in the cluster, and what they may do: no more than they must."""

from __future__ import annotations

from dsfn.functions.values import dataclass
from dsfn.knative.manifests.function import FUNCTION, FUNCTION_ACCOUNT
from dsfn.knative.manifests.words import Manifest, labels

CONTROL = "control"
CONTROL_NAME = "dsfn-control"
_RBAC = "rbac.authorization.k8s.io"
_WRITE = ("get", "list", "watch", "create", "update", "patch", "delete")
_READ = ("get", "list", "watch")


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs on resources of an API group; `names`: of these objects alone."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def to_manifest(self) -> Manifest:
        """The rule as a Role has it."""
        found: Manifest = {
            "apiGroups": [self.group],
            "resources": list(self.resources),
            "verbs": list(self.verbs),
        }
        return {**found, "resourceNames": list(self.names)} if self.names else found


# What the control service does: deploys functions, tells why one does not come up, shows its
# output, and has one leader. It reads no Secret.
CONTROL_RULES = (
    Rule("serving.knative.dev", ("services",), _WRITE),
    Rule("serving.knative.dev", ("routes", "configurations"), _READ),
    Rule("serving.knative.dev", ("revisions",), (*_READ, "delete")),
    Rule("eventing.knative.dev", ("triggers",), _WRITE),
    Rule("eventing.knative.dev", ("brokers",), _READ),
    Rule("", ("pods", "pods/log", "events"), ("get", "list")),
    # Proofs of revisions.
    Rule("", ("configmaps",), ("create", "patch")),
    # Whether a name is free.
    Rule("", ("services",), ("get",)),
    Rule("coordination.k8s.io", ("leases",), ("create",)),
    Rule("coordination.k8s.io", ("leases",), ("get", "update"), (CONTROL_NAME,)),
)


def accounts(namespace: str) -> tuple[Manifest, ...]:
    """The ServiceAccounts of functions, which may do nothing, and of the control service."""
    return (
        _account(FUNCTION_ACCOUNT, namespace, FUNCTION),
        _account(CONTROL_NAME, namespace, CONTROL),
    )


def roles(namespace: str) -> tuple[Manifest, ...]:
    """The control service's Role, in its namespace alone, and the binding to its account."""
    metadata = {"name": CONTROL_NAME, "namespace": namespace, "labels": labels(CONTROL)}
    role = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": metadata,
        "rules": [rule.to_manifest() for rule in CONTROL_RULES],
    }
    account = {"kind": "ServiceAccount", "name": CONTROL_NAME, "namespace": namespace}
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": CONTROL_NAME},
        "subjects": [account],
    }
    return role, binding


def _account(name: str, namespace: str, component: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": labels(component)},
        "automountServiceAccountToken": False,
    }
