"""A connection to a cluster's API server, as kubeconfig says or from inside a pod."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dsfn.functions.errors import ClusterUnreachable, DsfnError, UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.refusals import one_line, own_token_refused, refusal_of

if TYPE_CHECKING:
    from types import TracebackType

    from urllib3 import BaseHTTPResponse, Retry
    from urllib3.connectionpool import ConnectionPool

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
_JSON = "application/json"
_CONNECT_S = 5.0
_ANSWER_S = 30.0
_IN_CLUSTER = "in-cluster"
_UNKNOWN_USER = 401


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server, and the user to whom it is asked to do things. `context`: of kubeconfig.
    `answer_s`: how long it may take to answer; `is_of_control`: whether the user is the control
    service, and not who reads an error."""

    context: str
    address: str
    answer_s: float
    _api: Any = field(repr=False)
    is_of_control: bool = False

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = _JSON,
    ) -> bytes:
        """What the API server answers. Raises `ClusterError`, `NotFound`, and `Unavailable` where
        it takes the control service's token no more."""
        from kubernetes.client import ApiException
        from urllib3 import exceptions

        try:
            with self._credentials():
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
        except exceptions.TimeoutError as error:
            raise self._silent() from error
        except exceptions.HTTPError as error:
            raise self._unreachable(_cause(error)) from error

    def connect_to(self, namespace: str, pod: str, port: int) -> socket.socket:
        """A connection to a port of a pod. Raises `ClusterError`, `NotFound`."""
        from websocket import (
            WebSocketBadStatusException,
            WebSocketException,
            WebSocketTimeoutException,
        )

        from dsfn.knative.cluster.tunnel import open_tunnel

        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        try:
            with self._credentials():
                return open_tunnel(self._api, path, port, self.answer_s)
        except WebSocketBadStatusException as error:
            raise self._refusal(error.status_code, error.resp_body) from error
        except (TimeoutError, WebSocketTimeoutException) as error:
            raise self._silent() from error
        except (OSError, WebSocketException) as error:
            raise self._unreachable(_cause(error)) from error

    def document(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """A JSON document. Raises `ClusterError`, `NotFound`."""
        return json.loads(self.request("GET", path, query))

    @contextmanager
    def _credentials(self) -> Iterator[None]:
        """Says so where kubeconfig has no credentials for what is asked inside the block."""
        from kubernetes.config import ConfigException

        try:
            yield
        except ConfigException as error:
            raise UsageError(
                f"Context '{self.context}' gives no credentials: {one_line(error)}."
            ) from error

    def _refusal(self, status: int, body: bytes | str | None) -> DsfnError:
        if status == _UNKNOWN_USER and self.is_of_control:
            return own_token_refused()
        return refusal_of(status, body, f"context '{self.context}'")

    def _silent(self) -> ClusterUnreachable:
        return self._unreachable(f"it has said nothing for {self.answer_s:g} s")

    def _unreachable(self, reason: str) -> ClusterUnreachable:
        return ClusterUnreachable(
            f"The cluster of context '{self.context}' does not answer at {self.address}: {reason}.",
            address=self.address,
            reason=reason,
        )


def open_cluster(
    context: str | None = None,
    answer_s: float = _ANSWER_S,
    tries_again: bool = True,
    is_of_control: bool = False,
) -> Cluster:
    """The cluster of a context of kubeconfig, by default its current one; in a pod without a
    kubeconfig, the pod's own. `tries_again`: what it does not answer is asked for some more times,
    unless it has kept silent for `answer_s`. `is_of_control`: as of `Cluster`.

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
    configuration.retries = _retries() if tries_again else False
    if context is None and _is_inside():
        config.load_incluster_config(client_configuration=configuration)
        api = ApiClient(configuration)
        return Cluster(_IN_CLUSTER, configuration.host, answer_s, api, is_of_control)
    name = _chosen_context(context)
    try:
        config.load_kube_config(_kubeconfig(), name, configuration)
    except (config.ConfigException, OSError) as error:
        raise UsageError(
            f"Context '{name}' of {_kubeconfig()} cannot be used: {one_line(error)}."
        ) from error
    except TypeError as error:
        raise UsageError(
            f"Context '{name}' of {_kubeconfig()} cannot be used: it lacks what one consists of."
        ) from error
    return Cluster(name, configuration.host, answer_s, ApiClient(configuration), is_of_control)


def _retries() -> Retry:
    """Those that urllib3 usually makes, but for one: who said nothing for long will not now."""
    from urllib3 import Retry
    from urllib3.exceptions import ReadTimeoutError

    class Retries(Retry):
        def increment(
            self,
            method: str | None = None,
            url: str | None = None,
            response: BaseHTTPResponse | None = None,
            error: Exception | None = None,
            _pool: ConnectionPool | None = None,
            _stacktrace: TracebackType | None = None,
        ) -> Self:
            if isinstance(error, ReadTimeoutError):
                raise error
            return super().increment(method, url, response, error, _pool, _stacktrace)

    return Retries(3)


def _is_inside() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def _kubeconfig() -> str:
    return os.environ.get("KUBECONFIG") or "~/.kube/config"


def _chosen_context(context: str | None) -> str:
    """The context's name. Raises `UsageError` when there is no such context, or none chosen."""
    import yaml

    place = _kubeconfig()
    # KUBECONFIG may name several files.
    paths = [Path(each).expanduser() for each in place.split(os.pathsep) if each]
    files = [each for each in paths if each.is_file()]
    if not files:
        raise UsageError(f"There is no kubeconfig at {place}; KUBECONFIG says where another is.")
    try:
        names, usual = _contexts([yaml.safe_load(each.read_text("utf-8")) for each in files])
    except UnicodeDecodeError as error:
        raise UsageError(f"{place} is no kubeconfig: it is not text in UTF-8.") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{place} is no kubeconfig: it lacks what one consists of.") from error
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{place} is no kubeconfig: {one_line(error)}.") from error
    if not names:
        raise UsageError(f"{place} is no kubeconfig: it has no context.")
    chosen, known = context or usual, ", ".join(names)
    if not chosen:
        raise UsageError(
            f"{place} has no current context, which `kubectl config use-context` sets; it has"
            f" {known}."
        )
    if chosen not in names:
        raise UsageError(f"{place} has no context '{chosen}'; it has {known}.")
    return chosen


def _contexts(documents: list[Any]) -> tuple[tuple[str, ...], str]:
    """The names of the contexts of several files, and the current one, "" for none: what the first
    of them says, as kubectl has it. The package kubernetes has the last one say it, and reads
    none where that context is not there."""
    contexts = [one for each in documents for one in each.get("contexts") or ()]
    current = [str(each["current-context"]) for each in documents if each.get("current-context")]
    return tuple(dict.fromkeys(str(one["name"]) for one in contexts)), next(iter(current), "")


def _cause(error: Exception) -> str:
    """What the operating system said, out of urllib3's chain of causes, or the chain's end."""
    text = str(getattr(error, "reason", None) or error)
    # "...: Failed to establish a new connection: [Errno 111] Connection refused"
    said = re.search(r"\[[^\]]+\] ([^()]+)", text)
    return one_line(said[1] if said else text.rpartition("): ")[2])
