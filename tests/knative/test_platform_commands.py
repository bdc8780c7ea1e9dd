"""`dsfn platform` where there is no cluster, or none that can be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cli_runs import Dsfn
from ports import free_port

from dsfn.knative.manifests.platform import platform_objects

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: home
contexts: [{{name: home, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{port}"}}}}]
users: [{{name: u, user: {{token: t}}}}]
"""


@pytest.fixture
def dsfn(tmp_path: Path) -> Dsfn:
    return Dsfn(tmp_path, {"DSFN_DATA": str(tmp_path / "data"), "KUBECONFIG": "none"})


@pytest.fixture
def client(require: Callable[[str, str], None]) -> None:
    require("kubernetes", "pip install 'dsfn[knative]'")


def test_manifests_are_printed_without_a_cluster(dsfn: Dsfn) -> None:
    run = dsfn("platform", "install", "-o", "yaml", "--namespace", "models")
    assert run.code == 0, run.err
    assert tuple(yaml.safe_load_all(run.out)) == platform_objects("models")


def test_manifests_are_yaml_or_json(dsfn: Dsfn) -> None:
    assert dsfn("platform", "install", "-o", "yaml", "--json").code == 2


@pytest.mark.parametrize(
    ("kubeconfig", "arguments", "sentence"),
    [
        (None, (), "There is no kubeconfig at "),
        ("a: [", (), "is no kubeconfig: while parsing a flow node"),
        ("contexts: []\nclusters: []\nusers: []\ncurrent-context: x", (), "is no kubeconfig: "),
        (KUBECONFIG, ("--context", "work"), "has no context 'work'; it has home."),
    ],
)
@pytest.mark.parametrize("command", ["install", "upgrade", "status", "uninstall"])
@pytest.mark.usefixtures("client")
def test_a_kubeconfig_that_is_wrong_is_a_usage_mistake(
    dsfn: Dsfn, command: str, kubeconfig: str | None, arguments: tuple[str, ...], sentence: str
) -> None:
    place = dsfn.directory / "kubeconfig"
    if kubeconfig is not None:
        place.write_text(kubeconfig.format(port=1) if "{port}" in kubeconfig else kubeconfig)
    run = dsfn.given(KUBECONFIG=str(place))("platform", command, *arguments)
    assert (run.code, run.out) == (2, "")
    assert sentence in run.err and run.err.count("\n") == 1


@pytest.mark.usefixtures("client")
def test_a_cluster_that_does_not_answer_is_one_sentence(dsfn: Dsfn) -> None:
    port = free_port()
    place = dsfn.directory / "kubeconfig"
    place.write_text(KUBECONFIG.format(port=port))
    run = dsfn.given(KUBECONFIG=str(place))("platform", "status")
    address = f"https://127.0.0.1:{port}"
    assert (run.code, run.out) == (1, "")
    assert run.err == (
        f"The cluster of context 'home' does not answer at {address}: Connection refused.\n"
    )
