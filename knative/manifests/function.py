"""A revision of a function as a Knative Service."""

from __future__ import annotations

import json
from hashlib import sha256
from math import ceil

from dsfn.functions.placement import Placement
from dsfn.functions.values import dataclass
from dsfn.knative.manifests.proof import proof_variable
from dsfn.knative.manifests.resources import resources, snapshot_bytes
from dsfn.knative.manifests.scaling import autoscaling
from dsfn.knative.manifests.security import restricted
from dsfn.knative.manifests.traffic import ALL_TO_LATEST, Target, traffic_of
from dsfn.knative.manifests.words import (
    AGENT_CLAIM,
    AGENT_DIRECTORY,
    AGENT_SOCKET,
    FUNCTION_LABEL,
    REVISION_ANNOTATION,
    Manifest,
    labels,
    service_name,
)
from dsfn.knative.pod.document import Publication
from dsfn.runtime.config import Limits
from dsfn.runtime.model import Revision

SERVING = "serving.knative.dev/v1"
FUNCTION = "function"
# Of the ServiceAccount that functions run as, which has no rights.
FUNCTION_ACCOUNT = "dsfn-function"
# A call waits so long for a replica at most, and what the function's own timeout comes to is
# answered before Knative cuts the connection.
BEYOND_TIMEOUT_S = ceil(Limits().queue_timeout_s) + 10

_PORT = 8080
_DIGITS = 10
_TMP_BYTES = 2 << 30
_AGENT = {"name": "agent", "readOnly": True}
_AGENT_VOLUME = {
    "name": "agent",
    "persistentVolumeClaim": {"claimName": AGENT_CLAIM, "readOnly": True},
}
# Beside the snapshot: the bundle, and the packages of its requirements.
_BUNDLE_BYTES = 8 << 30


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What the pods of all functions of a tenant have in common.

    `image`: the runtime's, in which no function's code is. `store`: where revisions, bundles and
    snapshots are, "s3://BUCKET/PREFIX" or "file:///DIRECTORY". `blobs`: where the control service's
    blobs are, "s3://BUCKET/PREFIX", or "" where calls cannot refer to any. `control_url`: where
    usage is told. `agent`: where a pod without volumes asks the agent of its node, "tcp://...", or
    "" where nodes have none.
    `secret`: the Secret whose keys are the rest of a pod's environment: DSFN_API_KEY, with which it
    asks the control service, AWS_ACCESS_KEY_ID and so on. "" for none.
    """

    namespace: str
    image: str
    store: str
    control_url: str
    tenant: str = "default"
    secret: str = ""
    blobs: str = ""
    agent: str = ""


def function_service(
    revision: Revision,
    publication: Publication,
    settings: ServiceSettings,
    traffic: tuple[Target, ...] = ALL_TO_LATEST,
) -> Manifest:
    """The Knative Service of a function, its newest revision being this one.

    `publication`: what its pods find it by in the store. The same values give the same revision's
    name, and others another, so that applying it twice changes nothing.
    """
    name = service_name(revision.function)
    template = _template(revision, publication, settings)
    template["metadata"]["name"] = revision_name(name, template)
    (container,) = template["spec"]["containers"]
    container["env"].append(proof_variable(template["metadata"]["name"]))
    return {
        "apiVersion": SERVING,
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": {**labels(FUNCTION), FUNCTION_LABEL: revision.function},
        },
        "spec": {"template": template, "traffic": traffic_of(traffic)},
    }


def revision_name(service: str, template: Manifest) -> str:
    """What Knative is to call the revision that this template makes."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return f"{service}-{sha256(text.encode()).hexdigest()[:_DIGITS]}"


def _template(revision: Revision, publication: Publication, settings: ServiceSettings) -> Manifest:
    options = revision.options
    timeout_s = ceil(options.timeout_s) + BEYOND_TIMEOUT_S
    return {
        "metadata": {
            "labels": {**labels(FUNCTION), FUNCTION_LABEL: revision.function},
            "annotations": {**autoscaling(options), REVISION_ANNOTATION: revision.id},
        },
        "spec": {
            "serviceAccountName": FUNCTION_ACCOUNT,
            "automountServiceAccountToken": False,
            # Else a pod's environment grows with every Service of the namespace.
            "enableServiceLinks": False,
            "containerConcurrency": options.concurrency,
            "timeoutSeconds": timeout_s,
            "responseStartTimeoutSeconds": timeout_s,
            "containers": [_container(revision, publication, settings)],
            **_volumes(revision, settings),
            **_placed(options.placement, revision.function),
        },
    }


def _container(revision: Revision, publication: Publication, settings: ServiceSettings) -> Manifest:
    secret = settings.secret
    return {
        "name": FUNCTION,
        "image": settings.image,
        "ports": [{"name": "http1", "containerPort": _PORT}],
        "env": [
            {"name": "DSFN_REVISION", "value": publication.digest},
            {"name": "DSFN_LIBRARIES", "value": ",".join(publication.libraries)},
            {"name": "DSFN_STORE", "value": settings.store},
            {"name": "DSFN_BLOBS", "value": settings.blobs},
            {"name": "DSFN_CONTROL", "value": settings.control_url},
            {"name": "DSFN_TENANT", "value": settings.tenant},
            # Libraries keep caches at home.
            {"name": "HOME", "value": "/tmp"},
            *_disk(revision),
            *_agent(revision, settings),
        ],
        **({"envFrom": [{"secretRef": {"name": secret}}]} if secret else {}),
        "resources": resources(revision),
        "securityContext": restricted(),
        # The port of a proved revision is open at once: calls wait there while the pod gets
        # ready, and not for the next probe. Without a period the kubelet asks at its usual one,
        # every 10 s.
        "readinessProbe": {
            "tcpSocket": {"port": _PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "successThreshold": 1,
            "failureThreshold": 3,
        },
        # A pod that proves its revision opens its port late: as late as a replica may be loaded. A
        # probe of the start would have all pods wait for the kubelet's next look, a second later.
        "livenessProbe": {
            "initialDelaySeconds": ceil(Limits().start_timeout_s),
            "httpGet": {"path": "/health/liveness"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        **_mounts(revision, settings),
    }


def _disk(revision: Revision) -> list[Manifest]:
    """What a pod without volumes holds itself to."""
    if revision.snapshot is not None:
        return []
    return [{"name": "DSFN_DISK_BYTES", "value": str(_TMP_BYTES + _BUNDLE_BYTES)}]


def _agent(revision: Revision, settings: ServiceSettings) -> list[Manifest]:
    if not settings.agent:
        return []
    return [{"name": "DSFN_AGENT", "value": AGENT_SOCKET if revision.snapshot else settings.agent}]


def _mounts(revision: Revision, settings: ServiceSettings) -> Manifest:
    """Those of the volumes."""
    if revision.snapshot is None:
        return {}
    own = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "dsfn", "mountPath": "/dsfn"}]
    agents = [{**_AGENT, "mountPath": AGENT_DIRECTORY}] if settings.agent else []
    return {"volumeMounts": [*own, *agents]}


def _volumes(revision: Revision, settings: ServiceSettings) -> Manifest:
    """None where there is no snapshot: the kubelet waits a third of a second until it looks
    whether volumes are mounted, and the image has directories that a container writes to."""
    if revision.snapshot is None:
        return {}
    own_bytes = _BUNDLE_BYTES + snapshot_bytes(revision)
    own = [
        {"name": "tmp", "emptyDir": {"sizeLimit": str(_TMP_BYTES)}},
        {"name": "dsfn", "emptyDir": {"sizeLimit": str(own_bytes)}},
    ]
    return {"volumes": [*own, *([_AGENT_VOLUME] if settings.agent else [])]}


def _placed(placement: Placement | None, function: str) -> Manifest:
    """What a function asks of nodes. Knative takes each of these only with its feature flag."""
    if placement is None:
        return {}
    found: Manifest = {}
    if placement.node_selector:
        found["nodeSelector"] = dict(placement.node_selector)
    if placement.priority_class:
        found["priorityClassName"] = placement.priority_class
    if placement.spread:
        found["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                # A pod in a crowded zone is better than none.
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {FUNCTION_LABEL: function}},
            }
            for key in placement.spread
        ]
    return found
