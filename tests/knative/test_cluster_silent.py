"""An API server that takes a request and then says nothing: nobody waits for it for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from api_server import DocumentHandler, serving
from cli_runs import Dsfn
from scripted_cluster import KUBECONFIG

from dsfn.knative.cluster import connection

ANSWER_S = 0.2
PODS: dict[str, Any] = {
    "/api/v1": {"resources": [{"name": "pods", "kind": "Pod", "namespaced": True}]},
    "/api/v1/namespaces/dsfn/pods": {
        "items": [
            {
                "metadata": {"name": "dsfn-control-0"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }
        ],
        "metadata": {},
    },
}


@contextmanager
def silent_after(answers: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """The port of an API server that answers these paths and no others, and what it was asked."""
    over, asked = threading.Event(), []

    class Handler(DocumentHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            if path in answers:
                self.send_document(200, answers[path])
            else:
                over.wait()
                self.close_connection = True

    with serving(Handler) as port:
        try:
            yield port, asked
        finally:
            over.set()


@pytest.fixture
def dsfn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[str, str], None]
) -> Dsfn:
    """The command line, which waits a little less."""
    require("kubernetes", "pip install 'dsfn[knative]'")
    opened = partial(connection.open_cluster, answer_s=ANSWER_S)
    monkeypatch.setattr(connection, "open_cluster", opened)
    kubeconfig = str(tmp_path / "kubeconfig")
    return Dsfn(tmp_path, {"DSFN_DATA": str(tmp_path / "data"), "KUBECONFIG": kubeconfig})


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        ("platform status", {}),
        ("deploy app.py --target far", {}),
        ("deploy app.py --target far", PODS),
        ("status --target far", PODS),
    ],
)
def test_a_silent_api_server_is_given_up_in_one_sentence(
    dsfn: Dsfn, words: str, answers: dict[str, Any]
) -> None:
    (dsfn.directory / "app.py").write_text("import dsfn\n")
    assert dsfn("context", "set", "far", "kubernetes://home/dsfn").code == 0
    with silent_after(answers) as (port, asked):
        (dsfn.directory / "kubeconfig").write_text(KUBECONFIG.format(port=port))
        run = dsfn(*words.split())
    assert (run.code, run.out) == (1, "")
    assert run.err == (
        f"The cluster of context 'home' does not answer at http://127.0.0.1:{port}: it has said"
        f" nothing for {ANSWER_S:g} s.\n"
    )
    # Asked again, it would take as long again.
    assert len(asked) == len(set(asked))
