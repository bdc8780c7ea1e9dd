"""A connection to a cluster's API server, as kubeconfig says or from inside a pod."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from dsfn.functions.errors import ClusterUnreachable, DsfnError, UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.refusals import one_line, refusal_of

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
_JSON = "application/json"
_CONNECT_S = 5.0
_ANSWER_S = 30.0
_IN_CLUSTER = "in-cluster"


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server, and the user to whom it is asked to do things. `context`: of kubeconfig.
    `answer_s`: how long it may take to answer."""

    context: str
    address: str
    answer_s: float
    _api: Any = field(repr=False)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = _JSON,
    ) -> bytes:
        """What the API server answers. Raises `ClusterError`, `NotFound`."""
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        try:
            response = self._api.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "*/*", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=(min(_CONNECT_S, self.answer_s), self.answer_s),
            )
            content: bytes = response.data
            return content
        except ApiException as error:
            if not error.status:
                raise self._unreachable(_cause(error)) from error
            raise self._refusal(error.status, error.body) from error
        except HTTPError as error:
            raise self._unreachable(_cause(error)) from error
        except ConfigException as error:
            raise UsageError(
                f"Context '{self.context}' gives no credentials: {one_line(error)}."
            ) from error

    def connect_to(self, namespace: str, pod: str, port: int) -> socket.socket:
        """A connection to a port of a pod. Raises `ClusterError`, `NotFound`."""
        from kubernetes.client import ApiClient, ApiException, CoreV1Api
        from kubernetes.stream import portforward

        # Of its own for each connection, since the library changes it while it connects.
        core = CoreV1Api(ApiClient(self._api.configuration))
        try:
            tunnel = portforward(
                core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port)
            )
        except (ApiException, AttributeError) as error:
            raise self._no_way(error) from error
        # Under the library's wrapper is a plain socket.
        connected: socket.socket = tunnel.socket(port)._socket
        return connected

    def document(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """A JSON document. Raises `ClusterError`, `NotFound`."""
        return json.loads(self.request("GET", path, query))

    def _no_way(self, error: Exception) -> DsfnError:
        """Why there is no connection to a pod. The library keeps what the API server has answered
        to itself, and falls over its own error: both are found in what came before."""
        from websocket import WebSocketBadStatusException

        first = error
        while isinstance(first.__context__, Exception):
            first = first.__context__
            if isinstance(first, WebSocketBadStatusException):
                return self._refusal(first.status_code, first.resp_body)
        return self._unreachable(_cause(first))

    def _refusal(self, status: int, body: bytes | str | None) -> DsfnError:
        return refusal_of(status, body, f"context '{self.context}'")

    def _unreachable(self, reason: str) -> ClusterUnreachable:
        return ClusterUnreachable(
            f"The cluster of context '{self.context}' does not answer at {self.address}: {reason}.",
            address=self.address,
            reason=reason,
        )


def open_cluster(
    context: str | None = None, answer_s: float = _ANSWER_S, tries_again: bool = True
) -> Cluster:
    """The cluster of a context of kubeconfig, by default its current one; in a pod without a
    kubeconfig, the pod's own. `tries_again`: what it does not answer is asked for some more times.

    Nothing is sent yet. Raises `UsageError`.
    """
    try:
        from kubernetes import config
        from kubernetes.client import ApiClient, Configuration
    except ModuleNotFoundError:
        raise UsageError(
            "Clusters need the package kubernetes, which is not installed: run"
            " `pip install 'dsfn[knative]'`."
        ) from None
    configuration = Configuration()
    if not tries_again:
        configuration.retries = False
    if context is None and _is_inside():
        config.load_incluster_config(client_configuration=configuration)
        return Cluster(_IN_CLUSTER, configuration.host, answer_s, ApiClient(configuration))
    name = _chosen_context(context)
    try:
        config.load_kube_config(_kubeconfig(), name, configuration)
    except (config.ConfigException, OSError) as error:
        raise UsageError(
            f"Context '{name}' of {_kubeconfig()} cannot be used: {one_line(error)}."
        ) from error
    return Cluster(name, configuration.host, answer_s, ApiClient(configuration))


def _is_inside() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def _kubeconfig() -> str:
    return os.environ.get("KUBECONFIG") or "~/.kube/config"


def _chosen_context(context: str | None) -> str:
    """The context's name. Raises `UsageError` when there is no such context, or none chosen."""
    import yaml
    from kubernetes import config

    place = _kubeconfig()
    # KUBECONFIG may name several files.
    if not any(Path(each).expanduser().is_file() for each in place.split(os.pathsep)):
        raise UsageError(f"There is no kubeconfig at {place}; KUBECONFIG says where another is.")
    try:
        contexts, current = config.list_kube_config_contexts(place)
        names = [str(each["name"]) for each in contexts]
        usual = str(current["name"])
    except (config.ConfigException, OSError, yaml.YAMLError, TypeError) as error:
        raise UsageError(f"{place} is no kubeconfig: {one_line(error)}.") from error
    if context is not None and context not in names:
        raise UsageError(f"{place} has no context '{context}'; it has {', '.join(names)}.")
    return context or usual


def _cause(error: Exception) -> str:
    """What the operating system said, out of urllib3's chain of causes, or the chain's end."""
    text = str(getattr(error, "reason", None) or error)
    # "...: Failed to establish a new connection: [Errno 111] Connection refused"
    said = re.search(r"\[[^\]]+\] ([^()]+)", text)
    return one_line(said[1] if said else text.rpartition("): ")[2])
