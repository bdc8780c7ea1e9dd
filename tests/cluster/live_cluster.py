"""What tests do in a namespace of a real cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from revisions import make_revision

from dsfn.functions.options import Options
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.cluster.waiting import wait_ready
from dsfn.knative.manifests.accounts import accounts
from dsfn.knative.manifests.features import enabling
from dsfn.knative.manifests.function import ServiceSettings, function_service
from dsfn.knative.pod.document import Publication

HELLO = os.environ.get("DSFN_TEST_HELLO_IMAGE", "ghcr.io/knative/helloworld-go:latest")
GATEWAY = os.environ.get("DSFN_TEST_GATEWAY", "")
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class LiveCluster:
    """A namespace, and what was said while something there was awaited."""

    objects: Objects
    namespace: str
    said: list[str] = field(default_factory=list)

    def hello(
        self, name: str, image: str = HELLO, env: dict[str, str] | None = None, **options: Any
    ) -> Any:
        """The Service of a function whose image is a server that only says hello."""
        options = {"park_after_s": 6, "remove_after_s": 6, **options}
        revision = replace(make_revision(2, name), options=Options(name, **options))
        settings = ServiceSettings(self.namespace, image, "file:///dsfn", "http://dsfn-control")
        if env is None:
            return function_service(revision, Publication("00" * 32, ()), settings)
        service = function_service(revision, Publication("ff" * 32, ()), settings)
        (container,) = service["spec"]["template"]["spec"]["containers"]
        container["env"] += [{"name": key, "value": value} for key, value in env.items()]
        return service

    def deploy(self, service: Any, deadline_s: float = DEADLINE_S) -> Any:
        """Applies a Service and gives it once it is ready. Raises `NotReady`."""
        self.objects.apply(service)
        return wait_ready(self.objects, service, deadline_s, self.said.append)

    def get(self, service: Any) -> httpx.Response:
        """Calls a Service that is ready."""
        url = urlsplit(service["status"]["url"])
        address = GATEWAY or f"{url.scheme}://{url.netloc}"
        return httpx.get(address, headers={"Host": url.netloc}, timeout=30)

    def kubeconfig_of(self, account: str, place: Path) -> Path:
        """A kubeconfig with which a ServiceAccount of the namespace talks to the cluster."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = json.loads(self.objects.cluster.request("POST", path, body=body))
        configuration = self.objects.cluster._api.configuration
        cluster = {
            "server": configuration.host,
            "certificate-authority": str(Path(configuration.ssl_ca_cert).resolve()),
        }
        context = {"cluster": "c", "user": "u", "namespace": self.namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": account,
            "contexts": [{"name": account, "context": context}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": answer["status"]["token"]}}],
        }
        place.write_text(json.dumps(document), encoding="utf-8")
        return place


def make_functions_account(objects: Objects, namespace: str) -> None:
    """The account that functions run as."""
    for account in accounts(namespace):
        objects.apply(account)


@contextmanager
def switched_off(objects: Objects, flag: str) -> Iterator[None]:
    """One of Knative's feature flags is off inside the block."""
    features = enabling()
    found = objects.read(features)
    assert found is not None
    objects.change(features, {"data": {flag: "disabled"}})
    try:
        yield
    finally:
        # A flag that nobody has said anything of is taken away again.
        objects.change(features, {"data": {flag: (found.get("data") or {}).get(flag)}})
