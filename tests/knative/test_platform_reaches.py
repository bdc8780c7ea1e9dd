"""Which cluster `dsfn platform` talks to, and what it says of one that lacks Knative."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from api_server import DocumentHandler, serving
from cli_runs import Dsfn

from dsfn.billing.signing import new_pem
from dsfn.knative.manifests.features import enabling
from dsfn.knative.manifests.platform import platform_objects
from dsfn.knative.manifests.settings import PlatformSettings

SERVING, EVENTING = "/apis/serving.knative.dev/v1", "/apis/eventing.knative.dev/v1"
FEATURES = "/api/v1/namespaces/knative-serving/configmaps/config-features"
TOLD = {
    "DSFN_LEDGER": "postgresql://dsfn:word@db/dsfn",
    "DSFN_LEDGER_KEY": new_pem().decode(),
    "DSFN_STORE": "s3://models/p",
    "DSFN_CONTROL_IMAGE": "r.example/c:1",
    "DSFN_FUNCTION_IMAGE": "r.example/f:1",
}
TWO_CONTEXTS = """\
apiVersion: v1
kind: Config
contexts:
- {{name: away, context: {{cluster: away, user: u}}}}
- {{name: work, context: {{cluster: work, user: u}}}}
clusters:
- {{name: away, cluster: {{server: "http://127.0.0.1:1"}}}}
- {{name: work, cluster: {{server: "http://127.0.0.1:{port}"}}}}
users: [{{name: u, user: {{token: t}}}}]
"""


@contextmanager
def bare_cluster(*groups: str) -> Iterator[tuple[int, list[str]]]:
    """The port of an API server that knows Kubernetes' own kinds and those of these groups of
    Knative's, has next to no objects, and takes all there is to take; and what it was told to
    change."""
    kinds: dict[str, list[dict[str, object]]] = {}
    manifests = platform_objects(PlatformSettings("dsfn", "s3://models/p", "c", "f", TOLD))
    service = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
    for each in (*manifests, enabling(), {**service, "metadata": {"namespace": "dsfn"}}):
        version, kind = each["apiVersion"], each["kind"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        found = {
            "name": f"{kind.lower()}s",
            "kind": kind,
            "namespaced": "namespace" in each["metadata"],
        }
        if "knative" not in root or root in groups:
            kinds.setdefault(root, []).append(found)
    changed: list[str] = []

    class Handler(DocumentHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in kinds:
                self.send_document(200, {"resources": kinds[path]})
            elif path == FEATURES and SERVING in groups:
                self.send_document(200, enabling())
            elif path.count("/") > 4 and path.endswith("s"):
                self.send_document(200, {"items": [], "metadata": {}})
            else:
                self.send_document(404, {"message": f"{path} not found"})

        def do_PATCH(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if "dryRun=All" not in self.path:
                changed.append(self.path)
            self.send_document(200, json.loads(body))

    with serving(Handler) as port:
        yield port, changed


@pytest.fixture
def dsfn(tmp_path: Path, require: Callable[[str, str], None]) -> Dsfn:
    require("kubernetes", "pip install 'dsfn[knative]'")
    variables = {"DSFN_DATA": str(tmp_path / "data"), "KUBECONFIG": str(tmp_path / "kubeconfig")}
    return Dsfn(tmp_path, {"DSFN_API_KEY": "", **TOLD, **variables})


def write(dsfn: Dsfn, text: str, port: int) -> None:
    (dsfn.directory / "kubeconfig").write_text(text.format(port=port), encoding="utf-8")


WORK = TWO_CONTEXTS + "current-context: work\n"


@pytest.mark.parametrize(
    ("groups", "missing"),
    [
        ((), "no Service of serving.knative.dev/v1; install Knative Serving"),
        ((SERVING,), "no Broker of eventing.knative.dev/v1; install Knative Eventing"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--enable-features",)])
def test_an_install_without_knative_is_one_sentence_and_changes_nothing(
    dsfn: Dsfn, groups: tuple[str, ...], missing: str, options: tuple[str, ...]
) -> None:
    with bare_cluster(*groups) as (port, changed):
        write(dsfn, WORK, port)
        run = dsfn("platform", "install", *options)
    assert (run.code, run.out) == (1, "")
    assert run.err == (
        f"The cluster of context 'work' knows {missing}: https://knative.dev/docs/install/.\n"
    )
    assert changed == []


@pytest.mark.parametrize("command", ["upgrade", "status", "uninstall"])
def test_other_commands_say_without_knative_that_there_is_no_dsfn(dsfn: Dsfn, command: str) -> None:
    with bare_cluster() as (port, _):
        write(dsfn, WORK, port)
        run = dsfn("platform", command)
    there_is_none = "There is no dsfn in namespace dsfn of context 'work'.\n"
    assert run.out + run.err == there_is_none
    assert run.code == (0 if command == "uninstall" else 1)


@pytest.mark.parametrize("current", ["current-context: away\n", "current-context: gone\n", ""])
def test_a_context_that_is_said_is_used_whatever_the_current_one_is(
    dsfn: Dsfn, current: str
) -> None:
    with bare_cluster() as (port, _):
        write(dsfn, TWO_CONTEXTS + current, port)
        run = dsfn("platform", "status", "--context", "work")
    assert run.err == "There is no dsfn in namespace dsfn of context 'work'.\n"


@pytest.mark.parametrize(
    ("current", "code", "sentence"),
    [
        ("current-context: away\n", 1, "The cluster of context 'away' does not answer at"),
        ("current-context: gone\n", 2, "{place} has no context 'gone'; it has away, work.\n"),
        (
            "",
            2,
            "{place} has no current context, which `kubectl config use-context` sets; it has away,"
            " work.\n",
        ),
    ],
)
def test_a_current_context_that_is_no_good_is_one_sentence(
    dsfn: Dsfn, current: str, code: int, sentence: str
) -> None:
    write(dsfn, TWO_CONTEXTS + current, 1)
    run = dsfn("platform", "status")
    assert (run.code, run.out) == (code, "")
    assert run.err.startswith(sentence.format(place=dsfn.variables["KUBECONFIG"]))
    assert run.err.count("\n") == 1


def test_of_several_files_the_first_one_says_which_context_is_the_current_one(dsfn: Dsfn) -> None:
    other = dsfn.directory / "other"
    other.write_text(TWO_CONTEXTS.format(port=1) + "current-context: away\n", encoding="utf-8")
    with bare_cluster() as (port, _):
        write(dsfn, WORK, port)
        places = f":{dsfn.variables['KUBECONFIG']}:{dsfn.directory / 'none'}:{other}"
        run = dsfn.given(KUBECONFIG=places)("platform", "status")
    assert run.err == "There is no dsfn in namespace dsfn of context 'work'.\n"
