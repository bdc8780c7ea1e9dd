"""The node agent: a DaemonSet, and the ways from a function's pod to it.

The agent needs a part of the node's disk, which no Pod Security Standard but "privileged" allows:
hence a namespace of its own, with nothing else in it. Functions stay in theirs, which is
restricted: those with a snapshot mount the directory of its socket, to be read alone, by a claim on
a volume that is that directory on every node. The others have no file to get, and ask at the port
of their node's agent: a pod without a volume starts a third of a second sooner, which is how long
the kubelet waits until it looks whether volumes are mounted.
"""

from __future__ import annotations

from dsfn.functions.values import dataclass
from dsfn.knative.manifests.network import agents_namespace, agents_policy
from dsfn.knative.manifests.security import restricted
from dsfn.knative.manifests.words import (
    AGENT_CLAIM,
    AGENT_DIRECTORY,
    AGENT_PORT,
    AGENT_SOCKET,
    COMPONENT,
    SECRETS_ANNOTATION,
    Manifest,
    labels,
)
from dsfn.knative.process_one import command_of

AGENT = "agent"
MAX_PREFETCHED = 100
AGENT_NAME = "dsfn-agent"
_HOST = "/var/lib/dsfn"
_DATA = "/var/lib/dsfn"
_SHOWN = "/shown"
_GRACE_S = 30
# What it comes to: the page cache of what a rehearsal of a pod's start imports, 320 MB, and for its
# moments 180 MB more. A kubelet short of memory evicts those first that hold more than they have
# requested. It is no limit: the page cache of snapshots would count to one and be thrown out by it.
# That may be as large as the node's memory allows, and is given back when anybody needs it.
_MEMORY = "512Mi"
_PREFETCH = "DSFN_PREFETCH"
# Kubernetes wants to be told a size, and does not hold a directory to it.
_SOCKETS = "1Mi"


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`namespace`: the platform's. `image`: the control service's. `control_url`: where usage goes.
    `secret`: the Secret, in the agents' namespace, whose keys are the rest of the agent's
    environment, DSFN_API_KEY and AWS_... among them; `secret_digest`: another one when that is.
    `prefetch`: functions whose snapshots are brought to every node."""

    namespace: str
    image: str
    store: str
    control_url: str
    secret: str
    secret_digest: str = ""
    prefetch: tuple[str, ...] = ()


def agent_objects(settings: AgentSettings) -> tuple[Manifest, ...]:
    """Its network policy, DaemonSet and Service, in a namespace of their own, and the volume of its
    socket."""
    namespace = agents_namespace(settings.namespace)
    return (
        agents_policy(AGENT_NAME, namespace, AGENT, settings.namespace),
        _daemons(settings, namespace),
        _service(namespace),
        agents_volume(settings.namespace),
        _claim(settings.namespace),
    )


def prefetched_of(daemons: Manifest) -> tuple[str, ...]:
    """The functions whose snapshots a DaemonSet of agents brings before a pod asks."""
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value", "") for each in container["env"]}
    return tuple(name for name in told.get(_PREFETCH, "").split(",") if name)


def agents_namespace_of(platform: str) -> Manifest:
    """The namespace of a platform's agents."""
    name = agents_namespace(platform)
    enforced = {"pod-security.kubernetes.io/enforce": "privileged"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {**labels(AGENT), **enforced}},
    }


def _daemons(settings: AgentSettings, namespace: str) -> Manifest:
    selected = {COMPONENT: AGENT}
    template = {
        "metadata": {
            "labels": labels(AGENT),
            "annotations": {SECRETS_ANNOTATION: settings.secret_digest},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _GRACE_S,
            # Functions run on nodes that others are kept away from, such as those with GPUs.
            "tolerations": [{"operator": "Exists"}],
            "containers": [_container(settings)],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                _on_the_node("data", f"{_HOST}/agent/{settings.namespace}"),
                _on_the_node("run", _sockets(settings.namespace)),
            ],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": AGENT_NAME, "namespace": namespace, "labels": labels(AGENT)},
        "spec": {
            "selector": {"matchLabels": selected},
            "template": template,
            # The next one has its image and stands by before the one before it ends.
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
        },
    }


def _container(settings: AgentSettings) -> Manifest:
    probe = {"tcpSocket": {"port": AGENT_PORT}, "timeoutSeconds": 5}
    return {
        "name": AGENT,
        "image": settings.image,
        "command": command_of(AGENT),
        "ports": [{"name": "agent", "containerPort": AGENT_PORT}],
        "env": [
            {"name": "PORT", "value": str(AGENT_PORT)},
            {"name": "DSFN_STORE", "value": settings.store},
            {"name": "DSFN_CONTROL", "value": settings.control_url},
            {"name": "DSFN_AGENT", "value": AGENT_SOCKET},
            {"name": "DSFN_DATA", "value": _DATA},
            {"name": "DSFN_SHOWN", "value": f"{_SHOWN}/snapshots"},
            {"name": _PREFETCH, "value": ",".join(settings.prefetch)},
            {"name": "HOME", "value": "/tmp"},
        ],
        "envFrom": [{"secretRef": {"name": settings.secret}}],
        "resources": {"requests": {"cpu": "50m", "memory": _MEMORY}},
        "securityContext": _as_owner(),
        "readinessProbe": {**probe, "periodSeconds": 1},
        "livenessProbe": {**probe, "periodSeconds": 30},
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "data", "mountPath": _DATA},
            # The same once more: what pods get was opened where nobody can write.
            {"name": "data", "mountPath": _SHOWN, "readOnly": True},
            {"name": "run", "mountPath": AGENT_DIRECTORY},
        ],
    }


def _as_owner() -> Manifest:
    """Restricted but for the user: the kubelet makes directories on a node for root alone. Without
    capabilities, root may do no more than what it owns allows."""
    return {**restricted(), "runAsNonRoot": False, "runAsUser": 0, "runAsGroup": 0}


def agent_url(platform: str) -> str:
    """Where pods of a platform's namespace find the agent of their own node. The name ends with a
    dot: it is looked up as it is, and not in each of a pod's search domains before."""
    return f"tcp://{AGENT_NAME}.{agents_namespace(platform)}.svc.cluster.local.:{AGENT_PORT}"


def _service(namespace: str) -> Manifest:
    """Of a node's pods to the agent of that node. One that is about to end gets none any more."""
    spec = {
        "selector": {COMPONENT: AGENT},
        "ports": [{"name": "agent", "port": AGENT_PORT, "targetPort": AGENT_PORT}],
        "internalTrafficPolicy": "Local",
    }
    metadata = {"name": AGENT_NAME, "namespace": namespace, "labels": labels(AGENT)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _on_the_node(name: str, path: str) -> Manifest:
    return {"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}


def agents_volume(namespace: str) -> Manifest:
    """The directory of sockets, of whichever node asks. It is bound to the claim in advance."""
    claim = {"namespace": namespace, "name": AGENT_CLAIM}
    spec = {
        "accessModes": ["ReadOnlyMany"],
        "capacity": {"storage": _SOCKETS},
        "claimRef": claim,
        "hostPath": {"path": _sockets(namespace), "type": "DirectoryOrCreate"},
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
    }
    metadata = {"name": _volume_name(namespace), "labels": labels(AGENT)}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}


def _claim(namespace: str) -> Manifest:
    spec = {
        "accessModes": ["ReadOnlyMany"],
        "resources": {"requests": {"storage": _SOCKETS}},
        "storageClassName": "",
        "volumeName": _volume_name(namespace),
    }
    metadata = {"name": AGENT_CLAIM, "namespace": namespace, "labels": labels(AGENT)}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def _volume_name(namespace: str) -> str:
    return f"{AGENT_NAME}-{namespace}"


def _sockets(namespace: str) -> str:
    """Where the sockets of a platform's agents are on a node; another platform has others."""
    return f"{_HOST}/run/{namespace}"
