"""The control service: a node's program in cluster mode, as a Deployment."""

from __future__ import annotations

from dsfn.knative.manifests.accounts import CONTROL, CONTROL_NAME
from dsfn.knative.manifests.function import FUNCTION_ACCOUNT
from dsfn.knative.manifests.network import CONTROL_PORT
from dsfn.knative.manifests.secrets import digest_of
from dsfn.knative.manifests.security import restricted
from dsfn.knative.manifests.settings import PlatformSettings
from dsfn.knative.manifests.words import COMPONENT, SECRETS_ANNOTATION, Manifest, labels
from dsfn.knative.process_one import command_of

_REPLICAS = 2
# A pod that is deleted is told to stop so much later: the nodes go on sending to it until they have
# heard of it, and it serves as before.
_LEAVING_S = 5
# If all of it hangs, a leader that stops waits 25 s for requests, 10 s for events, 5 s for rows of
# pods, 5 s for where its signatures go, and 20 s for what the next leader is to answer.
_GRACE_S = _LEAVING_S + 75
_APPS = "apps/v1"
# Where whoever runs the platform can put a config.toml: a ConfigMap that need not be there.
CONFIG, _CONFIG_DIRECTORY = "dsfn-config", "/etc/dsfn"


def control_objects(settings: PlatformSettings) -> tuple[Manifest, ...]:
    """Its Deployment, Service and PodDisruptionBudget."""
    return (_deployment(settings), _service(settings), _disruptions(settings))


def control_url(namespace: str) -> str:
    """Where it is called inside the cluster."""
    return f"http://{CONTROL_NAME}.{namespace}.svc.cluster.local"


def variables_of(deployment: Manifest) -> dict[str, str]:
    """The variables that a Deployment of the control service says itself."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "") for each in container["env"]}


def image_of(deployment: Manifest) -> str:
    """The image that a Deployment of the control service has."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    image: str = container["image"]
    return image


def _deployment(settings: PlatformSettings) -> Manifest:
    selected = {COMPONENT: CONTROL}
    template = {
        "metadata": {
            "labels": labels(CONTROL),
            "annotations": {SECRETS_ANNOTATION: digest_of(settings.secrets)},
        },
        "spec": {
            "serviceAccountName": CONTROL_NAME,
            "automountServiceAccountToken": True,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _GRACE_S,
            "containers": [_container(settings)],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "dsfn", "emptyDir": {}},
                {"name": "config", "configMap": {"name": CONFIG, "optional": True}},
            ],
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


def _container(settings: PlatformSettings) -> Manifest:
    return {
        "name": CONTROL,
        "image": settings.image,
        "command": command_of(CONTROL),
        "ports": [{"name": "http", "containerPort": CONTROL_PORT}],
        "env": [
            {"name": "PORT", "value": str(CONTROL_PORT)},
            {"name": "DSFN_STORE", "value": settings.store},
            {"name": "DSFN_FUNCTION_IMAGE", "value": settings.function_image},
            {"name": "DSFN_FUNCTION_SECRET", "value": FUNCTION_ACCOUNT},
            {"name": "DSFN_AGENTS", "value": str(settings.agents).lower()},
            {"name": "DSFN_CONTROL", "value": control_url(settings.namespace)},
            {"name": "DSFN_CONFIG", "value": f"{_CONFIG_DIRECTORY}/config.toml"},
            # Not where code of functions writes: libraries take settings from a home.
            {"name": "HOME", "value": "/dsfn"},
            _of_the_pod("DSFN_NAMESPACE", "metadata.namespace"),
            _of_the_pod("POD_NAME", "metadata.name"),
            _of_the_pod("POD_IP", "status.podIP"),
        ],
        "envFrom": [{"secretRef": {"name": CONTROL_NAME}}],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": restricted(),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_LEAVING_S)]}}},
        "readinessProbe": {"httpGet": {"path": "/health/readiness", "port": CONTROL_PORT}},
        "livenessProbe": {
            "httpGet": {"path": "/health/liveness", "port": CONTROL_PORT},
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "dsfn", "mountPath": "/dsfn"},
            {"name": "config", "mountPath": _CONFIG_DIRECTORY, "readOnly": True},
        ],
    }


def _of_the_pod(name: str, path: str) -> Manifest:
    field = {"apiVersion": "v1", "fieldPath": path}
    return {"name": name, "valueFrom": {"fieldRef": field}}


def _service(settings: PlatformSettings) -> Manifest:
    spec = {
        "selector": {COMPONENT: CONTROL},
        "ports": [{"name": "http", "port": 80, "targetPort": CONTROL_PORT}],
    }
    return _object("v1", "Service", settings, spec)


def _disruptions(settings: PlatformSettings) -> Manifest:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {COMPONENT: CONTROL}}}
    return _object("policy/v1", "PodDisruptionBudget", settings, spec)


def _object(api_version: str, kind: str, settings: PlatformSettings, spec: Manifest) -> Manifest:
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
