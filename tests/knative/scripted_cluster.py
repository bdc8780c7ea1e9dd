"""An API server in this process that says what a test has it say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from api_server import DocumentHandler, serving

from dsfn.knative.cluster.connection import open_cluster
from dsfn.knative.cluster.objects import Objects

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: home
contexts: [{{name: home, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: u, user: {{token: t}}}}]
"""


@dataclass(frozen=True, slots=True)
class ScriptedCluster:
    """`answers`: by path, a document for each time that it is asked for, the last one for all
    further times; None stands for a server that is away, one with a `code` for a refusal."""

    objects: Objects
    answers: dict[str, list[Any]] = field(default_factory=dict)


@contextmanager
def scripted_cluster(place: Path, monkeypatch: Any) -> Iterator[ScriptedCluster]:
    """A cluster that knows Brokers and no other kind."""
    answers: dict[str, list[Any]] = {
        "/apis/eventing.knative.dev/v1": [
            {"resources": [{"name": "brokers", "kind": "Broker", "namespaced": True}]}
        ]
    }

    class Handler(DocumentHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            waiting = answers.get(path, [{"code": 404, "message": f"{path} not found"}])
            document = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            document = document or {"code": 503, "message": "it is away"}
            if "items" in document:
                wanted = query.get("labelSelector", [""])[0].split(",")
                items = [each for each in document["items"] if set(wanted) <= _labels(each)]
                document = {**document, "items": items}
            self.send_document(document.get("code", 200), document)

    with serving(Handler) as port:
        kubeconfig = place / "kubeconfig"
        kubeconfig.write_text(KUBECONFIG.format(port=port), encoding="utf-8")
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield ScriptedCluster(Objects(open_cluster()), answers)


def _labels(item: Any) -> set[str]:
    """As a selector has them; "" is what none asks for."""
    return {"", *(f"{name}={value}" for name, value in item["metadata"].get("labels", {}).items())}
