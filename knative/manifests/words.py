"""What all manifests have in common: names, labels, and how Kubernetes writes quantities."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

Manifest = dict[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
FUNCTION_LABEL = "dsfn.dev/function"
REVISION_ANNOTATION = "dsfn.dev/revision"
# Of Triggers: another one when Knative is to look at them.
REMINDED_ANNOTATION = "dsfn.dev/reminded"
# Of pods: another one when what their Secret says is.
SECRETS_ANNOTATION = "dsfn.dev/secrets"
DSFN = "dsfn"
# Where functions find the agent of their node, and the claim by which they mount that.
AGENT_CLAIM = "dsfn-agent"
AGENT_DIRECTORY = "/run/dsfn"
AGENT_SOCKET = f"{AGENT_DIRECTORY}/agent.sock"
AGENT_PORT = 8701

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# A revision's name is the Service's, "-" and ten digits; a tag's host begins with the tag and "-".
# Both are one label of a host name, which has at most 63 characters.
MAX_SERVICE_NAME = 46
MAX_TAG = 63 - MAX_SERVICE_NAME - 1
_SHORT = 8


def service_name(function: str) -> str:
    """The name of a function's Knative Service: its own, or the start of it and a digest."""
    if len(function) <= MAX_SERVICE_NAME:
        return function
    digest = sha256(function.encode()).hexdigest()[:_SHORT]
    return f"{function[: MAX_SERVICE_NAME - _SHORT - 1].rstrip('-')}-{digest}"


def is_namespace(name: str) -> bool:
    """Whether there can be a namespace of this name."""
    return _NAMESPACE.fullmatch(name) is not None


def labels(component: str) -> dict[str, str]:
    """Those of every object that dsfn makes, which says what it is a part of."""
    return {MANAGED_BY: DSFN, COMPONENT: component}


def seconds_of(duration_s: float) -> str:
    """A duration of at least 0 as Go writes it, to the millisecond: "90s", "0.5s"."""
    return f"{round(duration_s, 3):g}s" if duration_s < 1000 else f"{round(duration_s)}s"


def iso_duration(duration_s: float) -> str:
    """A duration as ISO 8601 writes it, which Knative Eventing wants: "PT90S", "PT0.5S"."""
    return f"PT{seconds_of(duration_s).upper()}"
