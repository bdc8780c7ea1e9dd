"""An API server in this process that says what a test has it say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

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
    further times; None stands for a server that is away."""

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
            path = self.path.partition("?")[0]
            waiting = answers.get(path, [{"message": f"{path} not found"}])
            document = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            status = 503 if document is None else 200 if path in answers else 404
            self.send_document(status, document or {"message": "it is away"})

    with serving(Handler) as port:
        kubeconfig = place / "kubeconfig"
        kubeconfig.write_text(KUBECONFIG.format(port=port), encoding="utf-8")
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield ScriptedCluster(Objects(open_cluster()), answers)
