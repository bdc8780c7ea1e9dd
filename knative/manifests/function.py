"""A revision of a function as a Knative Service."""

from __future__ import annotations

import json
from hashlib import sha256
from math import ceil

from dsfn.functions.placement import Placement
from dsfn.functions.values import dataclass
from dsfn.knative.manifests.disk import Disk, disk_of
from dsfn.knative.manifests.proof import proof_variable
from dsfn.knative.manifests.resources import resources
from dsfn.knative.manifests.scaling import autoscaling
from dsfn.knative.manifests.security import restricted
from dsfn.knative.manifests.traffic import ALL_TO_LATEST, Target, traffic_of
from dsfn.knative.manifests.words import (
    FUNCTION_LABEL,
    REVISION_ANNOTATION,
    Manifest,
    labels,
    service_name,
)
from dsfn.knative.pod.document import Publication
from dsfn.knative.pod.settings import PROXY_PORT
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
# Of queue-proxy, the container that Knative puts beside this one: the kubelet has it drain there.
_PROXY_PORT = 8022
_DIGITS = 10


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
    spec = {"template": template, "traffic": traffic_of(traffic)}
    return {**service_of(revision.function, settings.namespace), "spec": spec}


def service_of(function: str, namespace: str) -> Manifest:
    """The Knative Service of a function, without what it is to be like."""
    return {
        "apiVersion": SERVING,
        "kind": "Service",
        "metadata": {
            "name": service_name(function),
            "namespace": namespace,
            "labels": {**labels(FUNCTION), FUNCTION_LABEL: function},
        },
    }


def revision_name(service: str, template: Manifest) -> str:
    """What Knative is to call the revision that this template makes."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return f"{service}-{sha256(text.encode()).hexdigest()[:_DIGITS]}"


def _template(revision: Revision, publication: Publication, settings: ServiceSettings) -> Manifest:
    options = revision.options
    timeout_s = ceil(options.timeout_s) + BEYOND_TIMEOUT_S
    disk = disk_of(revision, settings.agent)
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
            "containers": [_container(revision, publication, settings, disk)],
            **({"volumes": list(disk.volumes)} if disk.volumes else {}),
            **_placed(options.placement, revision.function),
        },
    }


def _container(
    revision: Revision, publication: Publication, settings: ServiceSettings, disk: Disk
) -> Manifest:
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
            {"name": PROXY_PORT, "value": str(_PROXY_PORT)},
            # Libraries keep caches at home.
            {"name": "HOME", "value": "/tmp"},
            *disk.env,
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
        **({"volumeMounts": list(disk.mounts)} if disk.mounts else {}),
    }


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
