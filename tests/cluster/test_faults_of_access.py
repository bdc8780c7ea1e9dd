"""Who may not, or not there, is told so in one sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Run
from live_cluster import LiveCluster
from live_platform import LivePlatform

from dsfn.knative.manifests.words import Manifest

pytestmark = pytest.mark.cluster

APP = """
import dsfn


@dsfn.function
def one() -> int:
    return 1
"""


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "one.py"
    path.write_text(APP, encoding="utf-8")
    return str(path)


def sentence(run: Run, code: int) -> str:
    """The one that a command ends with, and nothing else."""
    assert (run.code, run.out) == (code, ""), run
    assert run.err.count("\n") == 1 and run.err.endswith(".\n"), run.err
    return run.err


@pytest.mark.parametrize("arguments", [("deploy",), ("list",), ("invoke", "rest", "--data", "{}")])
def test_who_may_do_nothing_is_told_what(
    platform: LivePlatform, app: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    live = LiveCluster(platform.objects, platform.namespace)
    kubeconfig = live.kubeconfig_of("dsfn-function", tmp_path / "function")
    given = (*arguments, app) if arguments == ("deploy",) else arguments
    told = sentence(platform.dsfn.given(KUBECONFIG=str(kubeconfig))(*given), 1)
    assert told.startswith(f"system:serviceaccount:{platform.namespace}:dsfn-function may not list")


def test_who_may_see_pods_and_not_reach_them_is_told_so(
    platform: LivePlatform, app: str, tmp_path: Path
) -> None:
    live = LiveCluster(platform.objects, platform.namespace)
    account, role, binding = seer(platform.namespace)
    for each in (account, role, binding):
        platform.objects.apply(each)
    try:
        kubeconfig = live.kubeconfig_of("seer", tmp_path / "seer")
        told = sentence(platform.dsfn.given(KUBECONFIG=str(kubeconfig))("deploy", app), 1)
    finally:
        for each in (binding, role, account):
            platform.objects.delete(each)
    assert told.startswith(f"system:serviceaccount:{platform.namespace}:seer may not ")
    assert "portforward" in told


def seer(namespace: str) -> tuple[Manifest, Manifest, Manifest]:
    """An account that may list pods, and no more."""
    metadata: Any = {"name": "seer", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
    subject = {"kind": "ServiceAccount", "name": "seer", "namespace": namespace}
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "seer"},
            "subjects": [subject],
        },
    )


def test_a_kubeconfig_that_is_wrong_is_a_usage_mistake(
    platform: LivePlatform, app: str, tmp_path: Path
) -> None:
    for text in ("a: [", "contexts: []\nclusters: []\nusers: []\ncurrent-context: x"):
        wrong = tmp_path / "wrong"
        wrong.write_text(text, encoding="utf-8")
        told = sentence(platform.dsfn.given(KUBECONFIG=str(wrong))("deploy", app), 2)
        assert f"{wrong} is no kubeconfig: " in told


AWAY = """\
apiVersion: v1
kind: Config
current-context: dsfn-test-away
contexts: [{name: dsfn-test-away, context: {cluster: dsfn-test-away, user: dsfn-test-away}}]
clusters: [{name: dsfn-test-away, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: dsfn-test-away, user: {token: t}}]
"""


def test_another_context_than_the_current_one_is_used_where_it_is_said(
    whole: LivePlatform, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    away.write_text(AWAY, encoding="utf-8")
    there, namespace = whole.objects.cluster.context, whole.namespace
    # Of several files the first one says which context is the current one, as `kubectl` has it.
    dsfn = whole.dsfn.given(KUBECONFIG=f"{away}{os.pathsep}{os.environ['KUBECONFIG']}")
    status = ("platform", "status", "--namespace", namespace)
    told = sentence(dsfn(*status), 1)
    assert told.startswith("The cluster of context 'dsfn-test-away' does not answer at ")
    state = dsfn(*status, "--context", there, "--json").json()
    assert {each["state"] for each in state["objects"]} == {"ready"}

    assert sentence(dsfn("list"), 1) == told
    dsfn = dsfn.given(DSFN_URL=f"kubernetes://{there}/{namespace}")
    names = {each["name"] for each in dsfn("list", "--json").json()}
    assert {"rest", "hear"} <= names


def test_a_namespace_without_a_platform_is_told(
    platform: LivePlatform, cluster: LiveCluster, app: str
) -> None:
    url = f"kubernetes:///{cluster.namespace}"
    told = sentence(platform.dsfn.given(DSFN_URL=url)("deploy", app), 1)
    assert f"The control service in namespace {cluster.namespace} of context" in told
