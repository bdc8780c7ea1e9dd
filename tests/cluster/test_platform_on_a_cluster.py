"""`dsfn platform` against a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_runs import Dsfn
from live_cluster import LiveCluster, switched_off
from live_platform import end_pods
from revisions import event_type, make_revision

from dsfn.billing.signing import new_pem
from dsfn.functions.errors import MissingKinds, MissingRights
from dsfn.functions.interface import FilterInterface
from dsfn.knative.cluster.changes import plan
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.agent import agents_namespace_of
from dsfn.knative.manifests.features import enabling
from dsfn.knative.manifests.platform import BROKER, namespace_of
from dsfn.knative.manifests.trigger import DeadLetterSink, trigger

pytestmark = pytest.mark.cluster

SPREAD = "kubernetes.podspec-topologyspreadconstraints"


@pytest.fixture
def dsfn(tmp_path: Path, objects: Objects, told: dict[str, str]) -> Dsfn:
    variables = {"DSFN_DATA": str(tmp_path), "KUBECONFIG": os.environ["KUBECONFIG"]}
    return Dsfn(tmp_path, {**variables, **told})


@pytest.fixture
def namespace(dsfn: Dsfn, objects: Objects) -> Iterator[str]:
    """A name for a platform, which is not there after the test."""
    name = f"dsfn-test-{uuid.uuid4().hex[:8]}"
    yield name
    end_pods(objects, name)
    run = dsfn("platform", "uninstall", "--namespace", name, "--with-functions")
    assert run.code == 0, run.err


def test_the_platforms_life(dsfn: Dsfn, objects: Objects, namespace: str) -> None:
    where = ("--namespace", namespace)
    assert dsfn("platform", "upgrade", *where).err == (
        f"There is no dsfn in namespace {namespace} of context '{objects.cluster.context}'.\n"
    )
    planned = dsfn("platform", "install", *where, "--dry-run", "--json").json()
    assert {each["action"] for each in planned["objects"]} == {"create"}
    assert objects.read(namespace_of(namespace)) is None

    with switched_off(objects, SPREAD):
        features: Any = objects.read(enabling())
        first = dsfn("platform", "install", *where)
        assert first.code == 0, first.err
        assert f"+ Namespace {namespace}" in first.out and "+ Broker dsfn" in first.out
        # Nobody has said --enable-features: all of it, its version included, is as it was.
        assert objects.read(enabling()) == features
        assert f"feature flag {SPREAD} is off: it will refuse functions with a spread" in first.err
        switched = dsfn("platform", "upgrade", *where, "--enable-features")
        assert f'data.{SPREAD}: "disabled" -> "enabled"' in switched.out, switched.err
        changed: Any = objects.read(enabling())
        assert changed["data"] == {**features["data"], **enabling()["data"]}
    second = dsfn("platform", "install", *where)
    assert second.out == "Everything is there as it should be.\n"

    state = dsfn("platform", "status", *where, "--json").json()
    assert {each["state"] for each in state["objects"]} == {"ready"}

    assert dsfn("platform", "uninstall", *where).code == 0
    assert objects.read(namespace_of(namespace)) is None
    assert dsfn("platform", "status", *where).code == 1


def test_what_somebody_changed_is_shown_and_put_right(
    dsfn: Dsfn, objects: Objects, namespace: str
) -> None:
    where = ("--namespace", namespace)
    assert dsfn("platform", "install", *where).code == 0
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "dsfn", "namespace": namespace},
    }
    patch = json.dumps({"spec": {"hard": {"pods": "7"}}})
    kind = "application/merge-patch+json"
    objects.cluster.request("PATCH", objects.path(quota), body=json.loads(patch), content_type=kind)
    status = dsfn("platform", "status", *where)
    assert (status.code, 'somebody has changed spec.hard.pods: "4k" -> "7"' in status.out) == (
        1,
        True,
    )
    run = dsfn("platform", "upgrade", *where)
    assert run.out == '~ ResourceQuota dsfn\n    spec.hard.pods: "7" -> "4k"\n'


def test_an_upgrade_takes_away_what_an_older_version_left(
    dsfn: Dsfn, objects: Objects, namespace: str
) -> None:
    where = ("--namespace", namespace)
    assert dsfn("platform", "install", *where).code == 0
    left = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "older",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "dsfn"},
        },
        "spec": {"podSelector": {}},
    }
    objects.apply(left)
    assert dsfn("platform", "upgrade", *where).out == "- NetworkPolicy older\n"
    assert objects.read(left) is None


def test_a_trigger_becomes_ready_and_stays_as_it_is(
    dsfn: Dsfn, objects: Objects, namespace: str
) -> None:
    assert dsfn("platform", "install", "--namespace", namespace).code == 0
    live = LiveCluster(objects, namespace)
    live.deploy(live.hello("hello"))
    photos = FilterInterface({"type": "photo"}, {"source": "/eu"}, {"subject": ".jpg"})
    filters = (photos, event_type("scan"))
    manifest = trigger(
        make_revision(2, "hello"), filters, namespace, BROKER, DeadLetterSink("hello", "/letters")
    )
    assert manifest is not None
    live.deploy(manifest)
    (planned,) = plan(objects, [manifest])
    assert not planned.does_something


def test_functions_are_not_deleted_by_the_way(dsfn: Dsfn, objects: Objects, namespace: str) -> None:
    where = ("--namespace", namespace)
    assert dsfn("platform", "install", *where).code == 0
    live = LiveCluster(objects, namespace)
    live.deploy(live.hello("hello"))
    # What Knative has made for it is no part of the platform, and nothing that is left over.
    assert dsfn("platform", "upgrade", *where).out == "Everything is there as it should be.\n"
    run = dsfn("platform", "uninstall", *where)
    assert (run.code, run.err) == (
        1,
        f"Functions are still in namespace {namespace} (hello): delete them first, or say"
        " --with-functions.\n",
    )
    assert objects.read(live.hello("hello")) is not None


def test_a_namespace_that_somebody_else_made_stays(
    dsfn: Dsfn, objects: Objects, namespace: str
) -> None:
    theirs = namespace_of(namespace)
    del theirs["metadata"]["labels"]
    objects.apply(theirs)
    where = ("--namespace", namespace)
    assert dsfn("platform", "install", *where).code == 0
    assert dsfn("platform", "uninstall", *where).code == 0
    assert objects.read(theirs) is not None
    objects.delete(theirs)


def test_kubectl_takes_the_manifests_that_are_printed(
    dsfn: Dsfn, cluster: LiveCluster, require: Callable[[str, str], None]
) -> None:
    require("kubectl", "https://kubernetes.io/docs/tasks/tools/")
    keys = {"DSFN_LEDGER_KEY": new_pem().decode(), "DSFN_API_KEY": f"dsfn_local_{'k' * 32}"}
    where = ("--namespace", cluster.namespace, "--enable-features")
    printed = dsfn.given(**keys)("platform", "install", "-o", "yaml", *where)
    assert printed.code == 0, printed.err
    manifests = list(yaml.safe_load_all(printed.out))
    # Without their namespaces the API server does not look at the rest.
    agents = agents_namespace_of(cluster.namespace)
    cluster.objects.apply(agents)
    try:
        apply = ("apply", "--server-side", "--field-manager", "dsfn", "--dry-run=server", "-f", "-")
        run = subprocess.run(
            ["kubectl", *apply], input=printed.out, capture_output=True, text=True, check=False
        )
    finally:
        cluster.objects.delete(agents)
    assert run.returncode == 0, run.stderr
    taken = run.stdout.splitlines()
    assert len(taken) == len(manifests)
    assert all(each.endswith(" serverside-applied (server dry run)") for each in taken)
    for manifest, line in zip(manifests, taken, strict=True):
        kind, name = line.split()[0].split("/")
        assert kind.startswith(manifest["kind"].lower()) and name == manifest["metadata"]["name"]


@pytest.mark.parametrize("command", ["install", "upgrade", "status", "uninstall"])
def test_missing_rights_are_one_sentence(
    dsfn: Dsfn, cluster: LiveCluster, command: str, tmp_path: Path
) -> None:
    kubeconfig = cluster.kubeconfig_of("dsfn-function", tmp_path / "function")
    run = dsfn.given(KUBECONFIG=str(kubeconfig))(
        "platform", command, "--namespace", cluster.namespace
    )
    user = f"system:serviceaccount:{cluster.namespace}:dsfn-function"
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"{user} may not ") and run.err.count("\n") == 1


def test_kinds_that_the_cluster_lacks_are_one_sentence(objects: Objects) -> None:
    absent = {"apiVersion": "eventing.knative.dev/v7", "kind": "Broker", "metadata": {"name": "a"}}
    with pytest.raises(MissingKinds) as raised:
        plan(objects, [absent])
    assert raised.value.message.endswith(
        "knows no Broker of eventing.knative.dev/v7; install Knative Eventing:"
        " https://knative.dev/docs/install/."
    )


def test_the_control_service_may_do_its_work_and_nothing_else(
    dsfn: Dsfn, objects: Objects, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dsfn("platform", "install", "--namespace", namespace).code == 0
    live = LiveCluster(objects, namespace)
    kubeconfig = live.kubeconfig_of("dsfn-control", tmp_path / "control")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    from dsfn.knative.cluster.connection import open_cluster

    control = LiveCluster(Objects(open_cluster()), namespace)
    service = control.deploy(control.hello("hello"))
    assert control.get(service).status_code == 200
    for forbidden in ("Secret", "ServiceAccount"):
        with pytest.raises(MissingRights):
            list(control.objects.list("v1", forbidden, namespace, {}))
    with pytest.raises(MissingRights):
        control.objects.apply(namespace_of(namespace))


def test_nobody_leads_where_the_books_are_out_of_reach(dsfn: Dsfn, namespace: str) -> None:
    lost = dsfn.given(DSFN_LEDGER="postgresql://dsfn@127.0.0.1:1/dsfn")
    run = lost("platform", "install", "--namespace", namespace, "--timeout", "20")
    assert run.code == 1
    assert "no replica of the control service leads; one last printed: The ledger dsfn" in run.err


def test_an_install_says_that_its_bucket_is_not_there(dsfn: Dsfn, namespace: str) -> None:
    lost = dsfn.given(DSFN_STORE="s3://no-such-bucket/platform")
    run = lost("platform", "install", "--namespace", namespace)
    assert run.code == 1
    assert "cannot be used: it has no bucket 'no-such-bucket'." in run.err
