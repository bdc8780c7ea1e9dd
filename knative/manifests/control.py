"""The control service: a node's program in cluster mode, as a Deployment."""

from __future__ import annotations

from dataclasses import dataclass

from dsfn.knative.manifests.accounts import CONTROL, CONTROL_NAME
from dsfn.knative.manifests.network import CONTROL_PORT
from dsfn.knative.manifests.security import restricted
from dsfn.knative.manifests.words import COMPONENT, Manifest, labels

_REPLICAS = 2
_GRACE_S = 60
_APPS = "apps/v1"


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """`secret`: the Secret whose keys are its environment variables, those of the ledger's
    database and of the object store among them."""

    namespace: str
    image: str
    store: str
    secret: str


def control_objects(settings: ControlSettings) -> tuple[Manifest, ...]:
    """Its Deployment, Service and PodDisruptionBudget."""
    return (_deployment(settings), _service(settings), _disruptions(settings))


def _deployment(settings: ControlSettings) -> Manifest:
    selected = {COMPONENT: CONTROL}
    template = {
        "metadata": {"labels": labels(CONTROL)},
        "spec": {
            "serviceAccountName": CONTROL_NAME,
            "automountServiceAccountToken": True,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _GRACE_S,
            "containers": [_container(settings)],
            "volumes": [{"name": each, "emptyDir": {}} for each in ("tmp", "dsfn")],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": selected},
                }
            ],
        },
    }
    spec = {
        "replicas": _REPLICAS,
        "selector": {"matchLabels": selected},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
        "template": template,
    }
    return _object(_APPS, "Deployment", settings, spec)


def _container(settings: ControlSettings) -> Manifest:
    return {
        "name": CONTROL,
        "image": settings.image,
        "command": ["python", "-m", "dsfn.knative.control"],
        "ports": [{"name": "http", "containerPort": CONTROL_PORT}],
        "env": [
            {"name": "PORT", "value": str(CONTROL_PORT)},
            {"name": "DSFN_STORE", "value": settings.store},
            {"name": "HOME", "value": "/tmp"},
        ],
        "envFrom": [{"secretRef": {"name": settings.secret}}],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": restricted(),
        "readinessProbe": {"httpGet": {"path": "/health/readiness", "port": CONTROL_PORT}},
        "livenessProbe": {
            "httpGet": {"path": "/health/liveness", "port": CONTROL_PORT},
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "dsfn", "mountPath": "/dsfn"},
        ],
    }


def _service(settings: ControlSettings) -> Manifest:
    spec = {
        "selector": {COMPONENT: CONTROL},
        "ports": [{"name": "http", "port": 80, "targetPort": CONTROL_PORT}],
    }
    return _object("v1", "Service", settings, spec)


def _disruptions(settings: ControlSettings) -> Manifest:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {COMPONENT: CONTROL}}}
    return _object("policy/v1", "PodDisruptionBudget", settings, spec)


def _object(api_version: str, kind: str, settings: ControlSettings, spec: Manifest) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": CONTROL_NAME,
            "namespace": settings.namespace,
            "labels": labels(CONTROL),
        },
        "spec": spec,
    }
