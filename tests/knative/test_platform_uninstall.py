"""`dsfn platform uninstall`: in which order things go, what it tells, and how long it waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from acting_cluster import ActingCluster, acting_cluster
from cli_runs import Dsfn

from dsfn.knative.manifests.function import FUNCTION, SERVING
from dsfn.knative.manifests.platform import namespace_of
from dsfn.knative.manifests.trigger import EVENTING
from dsfn.knative.manifests.words import labels

OURS = labels(FUNCTION)
SERVICES = f"/apis/{SERVING}/namespaces/models/services"
TRIGGERS = f"/apis/{EVENTING}/namespaces/models/triggers"
UNINSTALL = ("platform", "uninstall", "--namespace", "models")


@pytest.fixture
def cluster(tmp_path: Path, require: Callable[[str, str], None]) -> Iterator[ActingCluster]:
    """One with functions in a namespace of dsfn's."""
    require("kubernetes", "pip install 'dsfn[knative]'")
    with acting_cluster(tmp_path / "acting", {}) as made:
        made.objects["/api/v1/namespaces/models"] = namespace_of("models")
        for name in ("hears", "slow"):
            add_service(made, name, OURS)
        add_trigger(made, "hears", OURS)
        yield made


@pytest.fixture
def dsfn(tmp_path: Path, cluster: ActingCluster) -> Dsfn:
    variables = {"DSFN_DATA": str(tmp_path / "data"), "KUBECONFIG": str(cluster.kubeconfig)}
    return Dsfn(tmp_path, variables)


def add_service(cluster: ActingCluster, name: str, labels: dict[str, str], **more: Any) -> None:
    """A Service of Knative's."""
    metadata = {"name": name, "namespace": "models", "generation": 1, "labels": labels, **more}
    spec = {"template": {"metadata": {"name": f"{name}-1"}}, "traffic": []}
    document = {"apiVersion": SERVING, "kind": "Service", "metadata": metadata, "spec": spec}
    cluster.objects[f"{SERVICES}/{name}"] = document


def add_trigger(cluster: ActingCluster, name: str, labels: dict[str, str]) -> None:
    """A Trigger."""
    metadata = {"name": name, "namespace": "models", "generation": 1, "labels": labels}
    document = {"apiVersion": EVENTING, "kind": "Trigger", "metadata": metadata, "spec": {}}
    cluster.objects[f"{TRIGGERS}/{name}"] = document


def add_going_pod(cluster: ActingCluster, name: str, left_s: float) -> None:
    """A pod of the Service slow that has been told to end, with what is left of its grace."""
    ends_at = datetime.now(UTC) + timedelta(seconds=left_s)
    metadata = {
        "name": name,
        "namespace": "models",
        "labels": {"serving.knative.dev/service": "slow"},
        "deletionTimestamp": ends_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    path = f"/api/v1/namespaces/models/pods/{name}"
    cluster.objects[path] = {"kind": "Pod", "metadata": metadata}


def test_triggers_go_before_the_services_that_they_call(dsfn: Dsfn, cluster: ActingCluster) -> None:
    planned = dsfn(*UNINSTALL, "--with-functions", "--dry-run").out.splitlines()
    assert planned == ["- Trigger hears", "- Service hears", "- Service slow", "- Namespace models"]
    assert not cluster.deleted
    run = dsfn(*UNINSTALL, "--with-functions")
    assert run.code == 0, run.err
    assert cluster.deleted == [
        f"{TRIGGERS}/hears",
        f"{SERVICES}/hears",
        f"{SERVICES}/slow",
        "/api/v1/namespaces/models",
    ]


def test_triggers_that_a_failed_one_has_left_are_no_functions_and_go(
    dsfn: Dsfn, cluster: ActingCluster
) -> None:
    for name in ("hears", "slow"):
        del cluster.objects[f"{SERVICES}/{name}"]
    assert "- Trigger hears\n" in dsfn(*UNINSTALL, "--dry-run").out
    assert dsfn(*UNINSTALL).code == 0
    assert f"{TRIGGERS}/hears" in cluster.deleted


def test_what_others_made_in_a_namespace_that_goes_is_named(
    dsfn: Dsfn, cluster: ActingCluster
) -> None:
    add_service(cluster, "plain", {})
    add_service(cluster, "made", {}, ownerReferences=[{"kind": "Route", "name": "plain"}])
    add_trigger(cluster, "plain-events", {"app.kubernetes.io/managed-by": "Helm"})
    names = ["Service plain in namespace models", "Trigger plain-events in namespace models"]
    dry = dsfn(*UNINSTALL, "--with-functions", "--dry-run")
    told = f"what dsfn has not made: {', '.join(names)}.\n"
    assert dry.err == f"With its namespace would go {told}"
    assert "plain" not in dry.out
    document = dsfn(*UNINSTALL, "--with-functions", "--dry-run", "--json").json()
    assert document["others"] == names
    run = dsfn(*UNINSTALL, "--with-functions")
    assert run.code == 0, run.err
    assert run.err.startswith(f"With its namespace goes {told}")
    assert not [each for each in cluster.deleted if "plain" in each]


def test_what_others_made_stays_where_the_namespace_is_theirs(
    dsfn: Dsfn, cluster: ActingCluster
) -> None:
    del cluster.objects["/api/v1/namespaces/models"]["metadata"]["labels"]
    add_service(cluster, "plain", {})
    run = dsfn(*UNINSTALL, "--with-functions")
    assert run.code == 0 and "dsfn has not made" not in run.err, run.err
    assert list(cluster.objects) == ["/api/v1/namespaces/models", f"{SERVICES}/plain"]


def test_a_function_that_may_still_answer_calls_is_told_with_its_pods_and_what_helps(
    dsfn: Dsfn, cluster: ActingCluster
) -> None:
    cluster.lingering.add("slow")
    add_going_pod(cluster, "slow-1-pod", left_s=300)
    run = dsfn(*UNINSTALL, "--with-functions", "--timeout", "1")
    assert run.code == 1
    *_, sentence = run.err.splitlines()
    left_s = int(sentence.partition(", for ")[2].partition(" s more")[0])
    assert 280 < left_s <= 300
    assert sentence == (
        "Service slow in namespace models does not go: its pod slow-1-pod may still answer calls,"
        f" for {left_s} s more at the latest; without --timeout, or with a longer one, that is"
        " waited for, and `kubectl -n models delete pod slow-1-pod --force` breaks them off."
    )


def test_pods_that_are_past_their_grace_are_told_as_what_should_be_gone(
    dsfn: Dsfn, cluster: ActingCluster
) -> None:
    cluster.lingering.add("slow")
    for number in range(4):
        add_going_pod(cluster, f"slow-1-{number}", left_s=-60 - number)
    run = dsfn(*UNINSTALL, "--with-functions", "--timeout", "1")
    assert run.code == 1
    assert "its pods slow-1-0, slow-1-1, slow-1-2 and 1 more should have ended 6" in run.err
    selected = "`kubectl -n models delete pod -l serving.knative.dev/service=slow --force`"
    assert f"s ago; {selected} takes what is left away." in run.err


def test_without_a_timeout_it_waits_for_as_long_as_pods_may_take(
    dsfn: Dsfn, cluster: ActingCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsfn.knative.cli.platform._TIMEOUT_S", 1)
    cluster.lingering.add("slow")
    add_going_pod(cluster, "slow-1-pod", left_s=5)
    ending = threading.Timer(4, cluster.let_go, ["slow"])
    ending.start()
    try:
        run = dsfn(*UNINSTALL, "--with-functions")
    finally:
        ending.join()
    assert run.code == 0, run.err
    told = [each for each in run.err.splitlines() if "may still answer calls, until" in each]
    assert len(told) == 1 and "Service slow in namespace models: its pod slow-1-pod" in told[0]
