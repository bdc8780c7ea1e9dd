"""What a cluster would refuse of a function, or never get ready, in the words of who wrote it."""

from __future__ import annotations

import re

from dsfn.functions.errors import ClusterRefused, DefinitionError
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.function import BEYOND_TIMEOUT_S, SERVING
from dsfn.knative.manifests.words import FUNCTION_LABEL, Manifest, service_name
from dsfn.runtime.model import Revision

_TIMEOUT_TOO_LONG = re.compile(r"expected 0 <= \d+ <= (\d+): spec\.template\.spec\.timeoutSeconds")


def require_free_name(objects: Objects, namespace: str, function: str) -> None:
    """Raises `DefinitionError` where another Service has the name that the function's would: one of
    the platform, a host of another function's revision, or what somebody else has made."""
    name = service_name(function)
    metadata = {"name": name, "namespace": namespace}
    own = objects.read({"apiVersion": SERVING, "kind": "Service", "metadata": metadata})
    host = objects.read({"apiVersion": "v1", "kind": "Service", "metadata": metadata})
    is_free = own is None or (own["metadata"].get("labels") or {}).get(FUNCTION_LABEL) == function
    if not is_free or not (host is None or _is_of_route(host, name)):
        raise DefinitionError(
            f"The function {function} needs another name here: namespace {namespace} has a Service"
            f" {name} already, which is not the function's.",
            function=function,
        )


def require_timeout_taken(error: ClusterRefused, revision: Revision) -> None:
    """Raises `DefinitionError` if Knative has refused the function for its timeout."""
    found = _TIMEOUT_TOO_LONG.search(str(error.fields["reason"]))
    if found is not None:
        function, timeout_s = revision.function, revision.options.timeout_s
        raise DefinitionError(
            f"The timeout of {function} is {timeout_s:g} s: that and {BEYOND_TIMEOUT_S} s must be"
            f" at most the max-revision-timeout-seconds of this cluster's Knative, {found[1]}.",
            function=function,
        ) from error


def _is_of_route(host: Manifest, name: str) -> bool:
    """Whether Knative has made it for the Knative Service of that name."""
    owners = host["metadata"].get("ownerReferences") or ()
    return any((each["kind"], each["name"]) == ("Route", name) for each in owners)
