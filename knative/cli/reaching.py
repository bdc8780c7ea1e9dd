"""`kubernetes://CONTEXT/NAMESPACE`: a cluster's control service, by a context of kubeconfig."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from dsfn.functions.errors import Unavailable, UsageError
from dsfn.functions.values import dataclass
from dsfn.runtime.cli.output import complain
from dsfn.runtime.cli.ways import Reached

if TYPE_CHECKING:
    from dsfn.knative.cluster.objects import Objects

SCHEME = "kubernetes"


@dataclass(frozen=True, slots=True)
class ControlAddress:
    """Where a control service is. `context`: of kubeconfig, "" for its current one."""

    context: str
    namespace: str


def read_address(url: str) -> ControlAddress:
    """What a URL of the scheme stands for. Raises `UsageError`."""
    from dsfn.knative.manifests.words import is_namespace

    # Names of contexts may have slashes, those of namespaces have none.
    below = url.removeprefix(f"{SCHEME}://").removesuffix("/")
    context, slash, namespace = below.rpartition("/")
    if not slash or not is_namespace(namespace):
        raise UsageError(f"{url!r} is not {SCHEME}://CONTEXT/NAMESPACE.")
    return ControlAddress(context, namespace)


@contextmanager
def control_service(url: str) -> Iterator[Reached]:
    """The way to it, through the API server. Raises `ClusterError`, `NotFound`, `Unavailable`,
    `UsageError`."""
    # Both take longer to import than most commands take.
    from dsfn.knative.cluster.connection import open_cluster
    from dsfn.knative.cluster.forwarding import forwarded
    from dsfn.knative.cluster.objects import Objects
    from dsfn.knative.manifests.accounts import CONTROL_NAME
    from dsfn.knative.manifests.network import CONTROL_PORT

    address = read_address(url)
    cluster, namespace = open_cluster(address.context or None), address.namespace
    pod = _ready_pod(Objects(cluster), namespace)
    with forwarded(cluster, namespace, pod, CONTROL_PORT) as path:
        prepare = partial(_prepare, Objects(cluster), namespace)
        yield Reached(f"http://{CONTROL_NAME}.{namespace}", str(path), prepare)


def _prepare(objects: Objects, namespace: str, requirements: frozenset[str]) -> None:
    """Has the image be there that functions with these requirements run in."""
    if not requirements:
        return
    from dsfn.knative.cluster.told import function_image_of
    from dsfn.knative.images.required import ensure_image

    ensure_image(function_image_of(objects, namespace), requirements, os.environ, complain)


def _ready_pod(objects: Objects, namespace: str) -> str:
    """One of its pods that is not about to go: each passes on to the others what is not for
    itself."""
    from dsfn.knative.cluster.readiness import condition
    from dsfn.knative.manifests.accounts import CONTROL
    from dsfn.knative.manifests.words import COMPONENT

    pods = objects.list("v1", "Pod", namespace, {"labelSelector": f"{COMPONENT}={CONTROL}"})
    for pod in pods:
        is_going = "deletionTimestamp" in pod["metadata"]
        if condition(pod, "Ready").get("status") == "True" and not is_going:
            return str(pod["metadata"]["name"])
    raise Unavailable(
        f"The control service in namespace {namespace} of context '{objects.cluster.context}' has"
        " no pod that is ready; `dsfn platform status` says why."
    )
