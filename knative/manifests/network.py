"""Who may connect to pods, and where pods may connect to.

A cluster whose network knows no policies takes these and applies none.
"""

from __future__ import annotations

from dsfn.knative.manifests.accounts import CONTROL
from dsfn.knative.manifests.function import FUNCTION
from dsfn.knative.manifests.words import AGENT_PORT, COMPONENT, DSFN, MANAGED_BY, Manifest, labels

# Knative's own namespace, from which the activator sends calls and the autoscaler asks for
# figures, and those of the ingresses that Knative has.
_KNATIVE = (
    "knative-serving",
    "kourier-system",
    "istio-system",
    "contour-external",
    "contour-internal",
    "envoy-gateway-system",
)
CONTROL_PORT = 8700
# There clouds tell every pod the credentials of its node.
_LINK_LOCAL = {"IPv4": ("0.0.0.0/0", "169.254.0.0/16"), "IPv6": ("::/0", "fe80::/10")}
_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_OF_AGENTS = "-agents"
# A namespace's name has at most 63 characters, and so has that of the agents'.
MAX_NAMESPACE = 63 - len(_OF_AGENTS)


def network_policies(namespace: str) -> tuple[Manifest, ...]:
    """Nobody connects to anything of the platform, except: Knative to functions; functions,
    agents, Knative and its dead letters to the control service, whose replicas pass requests on to
    each other. Functions connect to everything but link-local addresses."""
    return (
        # The namespace may be somebody else's, with pods that are no business of ours.
        _policy(
            "dsfn-deny", namespace, "platform", {MANAGED_BY: DSFN}, {"policyTypes": ["Ingress"]}
        ),
        _policy(
            "dsfn-functions",
            namespace,
            FUNCTION,
            {COMPONENT: FUNCTION},
            {
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [_namespaces(*_KNATIVE)]}],
                "egress": _outward(),
            },
        ),
        _policy(
            "dsfn-control",
            namespace,
            CONTROL,
            {COMPONENT: CONTROL},
            {
                "policyTypes": ["Ingress"],
                "ingress": [
                    {
                        "from": [
                            {"podSelector": {"matchLabels": {COMPONENT: FUNCTION}}},
                            {"podSelector": {"matchLabels": {COMPONENT: CONTROL}}},
                            _namespaces(*_KNATIVE, "knative-eventing", agents_namespace(namespace)),
                        ],
                        "ports": [{"protocol": "TCP", "port": CONTROL_PORT}],
                    }
                ],
            },
        ),
    )


def agents_namespace(namespace: str) -> str:
    """Where the node agents of a platform are."""
    return f"{namespace}{_OF_AGENTS}"


def agents_policy(name: str, namespace: str, component: str, platform: str) -> Manifest:
    """Functions of the platform connect to its agents, and nobody else does. Agents themselves may
    do what functions may."""
    functions = {**_namespaces(platform), "podSelector": {"matchLabels": {COMPONENT: FUNCTION}}}
    port = {"protocol": "TCP", "port": AGENT_PORT}
    rules = {
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [functions], "ports": [port]}],
        "egress": _outward(),
    }
    return _policy(name, namespace, component, {}, rules)


def _outward() -> list[Manifest]:
    """Everywhere but to link-local addresses."""
    return [
        # The cluster's DNS may have a link-local address, too.
        {"ports": [{"protocol": each, "port": 53} for each in ("UDP", "TCP")]},
        {"to": [_all_but(*each) for each in _LINK_LOCAL.values()]},
    ]


def _policy(
    name: str, namespace: str, component: str, selected: dict[str, str], rules: Manifest
) -> Manifest:
    selector = {"matchLabels": selected} if selected else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": labels(component)},
        "spec": {"podSelector": selector, **rules},
    }


def _namespaces(*names: str) -> Manifest:
    expression = {"key": _NAMESPACE_NAME, "operator": "In", "values": list(names)}
    return {"namespaceSelector": {"matchExpressions": [expression]}}


def _all_but(everything: str, excepted: str) -> Manifest:
    return {"ipBlock": {"cidr": everything, "except": [excepted]}}
