"""Waiting for an object, whatever the API server does meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_cluster import ScriptedCluster, scripted_cluster

from dsfn.billing.signing import new_pem
from dsfn.functions.errors import (
    ClusterUnreachable,
    MissingKinds,
    NotFound,
    NotReady,
    UsageError,
)
from dsfn.knative.cluster.going import stay_of
from dsfn.knative.cluster.installation import Installation
from dsfn.knative.cluster.told import Told, platform_settings, require_complete
from dsfn.knative.cluster.waiting import wait_gone, wait_ready
from dsfn.knative.manifests.platform import platform_objects

(BROKER,) = (
    each for each in platform_objects(Told().settings("models")) if each["kind"] == "Broker"
)
PATH = "/apis/eventing.knative.dev/v1/namespaces/models/brokers/dsfn"
CONTROL_SECRET = ("Secret", "dsfn-control")


@pytest.fixture
def cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[str, str], None]
) -> Iterator[ScriptedCluster]:
    require("kubernetes", "pip install 'dsfn[knative]'")
    # Each look asks why, and not one a second.
    monkeypatch.setattr("dsfn.knative.cluster.waiting._ASK_S", 0.0)
    with scripted_cluster(tmp_path, monkeypatch) as made:
        yield made


def broker(ready: str, message: str = "") -> Any:
    conditions = [{"type": "Ready", "status": ready, "message": message}]
    metadata = {**BROKER["metadata"], "generation": 1}
    return {
        **BROKER,
        "metadata": metadata,
        "status": {"observedGeneration": 1, "conditions": conditions},
    }


def know_kinds(cluster: ScriptedCluster) -> None:
    """Has the cluster know what a platform is remembered by."""
    kinds = {"deployments": "Deployment", "daemonsets": "DaemonSet", "replicasets": "ReplicaSet"}
    cluster.answers["/apis/apps/v1"] = [resources(kinds)]
    cluster.answers["/api/v1"] = [
        resources({"secrets": "Secret", "pods": "Pod", "events": "Event"})
    ]


def resources(kinds: dict[str, str]) -> Any:
    return {"resources": [{"name": n, "kind": k, "namespaced": True} for n, k in kinds.items()]}


def test_what_is_awaited_is_told_each_time_that_it_changes(cluster: ScriptedCluster) -> None:
    waits = broker("Unknown", "Waits for its channel.")
    cluster.answers[PATH] = [waits, waits, broker("Unknown", "Waits for DNS."), broker("True")]
    said: list[str] = []
    assert wait_ready(cluster.objects, BROKER, 10, said.append) == broker("True")
    assert said == [
        "Broker dsfn in namespace models: waits for its channel",
        "Broker dsfn in namespace models: waits for DNS",
    ]


def test_an_api_server_that_comes_back_was_only_away(cluster: ScriptedCluster) -> None:
    cluster.answers[PATH] = [broker("Unknown", "Waits."), None, None, broker("True")]
    said: list[str] = []
    wait_ready(cluster.objects, BROKER, 10, said.append)
    assert said[-1] == "The cluster of context 'home' cannot answer now: it is away"


def test_an_api_server_that_stays_away_is_given_up_at_the_deadline(
    cluster: ScriptedCluster,
) -> None:
    cluster.answers[PATH] = [broker("Unknown", "Waits."), None]
    with pytest.raises(ClusterUnreachable):
        wait_ready(cluster.objects, BROKER, 1, lambda sentence: None)


def test_what_is_not_ready_at_the_deadline_is_told_why(cluster: ScriptedCluster) -> None:
    cluster.answers[PATH] = [broker("False", "No channel.")]
    with pytest.raises(NotReady, match="Broker dsfn in namespace models is not ready: no channel"):
        wait_ready(cluster.objects, BROKER, 0, lambda sentence: None)


def test_what_is_gone_is_not_waited_for(cluster: ScriptedCluster) -> None:
    with pytest.raises(NotFound, match="Broker dsfn in namespace models is gone"):
        wait_ready(cluster.objects, BROKER, 10, lambda sentence: None)


def test_what_does_not_go_is_told(cluster: ScriptedCluster) -> None:
    cluster.answers[PATH] = [broker("True")]
    with pytest.raises(NotReady, match="does not go: something that it owns is still there"):
        wait_gone(cluster.objects, BROKER, 0, lambda sentence: None)


def test_why_something_stays_is_told_once_and_not_of_what_goes_at_once(
    cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[str]()
    monkeypatch.setattr("dsfn.knative.cluster.waiting._ASK_S", 60.0)
    cluster.answers[PATH] = [broker("True"), {"code": 404, "message": "not found"}]
    wait_gone(cluster.objects, BROKER, 10, told.append)
    assert told == []
    monkeypatch.setattr("dsfn.knative.cluster.waiting._ASK_S", 0.0)
    cluster.answers[PATH] = [broker("True"), broker("True"), broker("True")]
    with pytest.raises(NotReady):
        wait_gone(cluster.objects, BROKER, 0.5, told.append)
    assert told == ["Broker dsfn in namespace models: something that it owns is still there"]


def test_what_is_prefetched_is_remembered_until_something_else_is_told(
    cluster: ScriptedCluster,
) -> None:
    told = Told(prefetch=("embed", "classify"))
    found = {each["kind"]: each for each in platform_objects(told.settings("models"))}
    know_kinds(cluster)
    path = "/apis/apps/v1/namespaces/models-agents/daemonsets/dsfn-agent"
    cluster.answers[path] = [found["DaemonSet"]]
    for now, then in ((None, ("embed", "classify")), ((), ()), (("other",), ("other",))):
        settings = platform_settings(cluster.objects, "models", Told(prefetch=now), agents=True)
        assert settings.prefetch == then


def test_keys_that_nobody_has_told_are_made_up_once(cluster: ScriptedCluster) -> None:
    know_kinds(cluster)

    def secrets() -> Any:
        return platform_settings(cluster.objects, "models", Told(), agents=True).secrets

    made, others = secrets(), secrets()
    assert made["DSFN_LEDGER_KEY"].startswith("-----BEGIN PRIVATE KEY")
    assert made["DSFN_API_KEY"].startswith("dsfn_local_")
    assert not set(made.values()) & set(others.values())
    objects = platform_objects(Told(secrets=made).settings("models"))
    (secret,) = (e for e in objects if (e["kind"], e["metadata"]["name"]) == CONTROL_SECRET)
    cluster.answers["/api/v1/namespaces/models/secrets/dsfn-control"] = [secret]
    assert secrets() == made


def test_what_agents_bring_takes_agents(cluster: ScriptedCluster) -> None:
    settings = Told(
        "s3://models",
        "c:1",
        "f:1",
        {
            "DSFN_LEDGER": "postgresql://db/dsfn",
            "DSFN_LEDGER_KEY": new_pem().decode(),
            "DSFN_API_KEY": "dsfn_local_of-the-test-platform",
        },
        ("embed",),
    ).settings("models", agents=False)
    with pytest.raises(UsageError, match="--enable-features switches it on"):
        require_complete(settings)


def test_without_knative_nothing_is_installed_and_nothing_is_left(
    cluster: ScriptedCluster,
) -> None:
    installation = Installation(cluster.objects, "models")
    with pytest.raises(MissingKinds) as raised:
        installation.plan(Told(), enable_features=False)
    assert raised.value.message == (
        "The cluster of context 'home' knows no Service of serving.knative.dev/v1; install Knative"
        " Serving: https://knative.dev/docs/install/."
    )
    assert installation.functions() == ()


APPS = "/apis/apps/v1/namespaces/models"
PODS = "/api/v1/namespaces/models/pods"
OF_CONTROL = {"app.kubernetes.io/component": "control"}


def of_workload(kind: str, annotation: str, ready: bool) -> Any:
    """A Deployment or DaemonSet whose newest pods are of its third template."""
    objects = platform_objects(Told().settings("models"))
    found = next(each for each in objects if each["kind"] == kind)
    own = {"uid": "u", "generation": 3, "annotations": {annotation: "3"}}
    there = 2 if ready else 0
    counts = {"availableReplicas": there, "updatedReplicas": there, "numberAvailable": there}
    status = {"observedGeneration": 3, "updatedNumberScheduled": 2, "desiredNumberScheduled": 2}
    return {**found, "metadata": {**found["metadata"], **own}, "status": {**status, **counts}}


def pod_of(labels: dict[str, str], container: str, restarts: int) -> Any:
    """One whose container ends again and again, or has just been started."""
    state = {"terminated": {"exitCode": 1}} if restarts else {"waiting": {}}
    about = {"name": container, "image": "a", "ready": False, "restartCount": restarts}
    metadata = {"name": "p", "uid": "p", "namespace": "models", "labels": labels}
    return {"metadata": metadata, "status": {"containerStatuses": [{**about, "state": state}]}}


def replica_set(revision: str, hash_: str) -> Any:
    return {
        "metadata": {
            "labels": {**OF_CONTROL, "pod-template-hash": hash_},
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"uid": "u"}],
        }
    }


def know_deployment(cluster: ScriptedCluster, replica_sets: Any) -> Any:
    """A Deployment that becomes ready, beside the pods of the one before, which never were."""
    know_kinds(cluster)
    kind, annotation = "Deployment", "deployment.kubernetes.io/revision"
    waits, ready = (of_workload(kind, annotation, each) for each in (False, True))
    cluster.answers[f"{APPS}/deployments/dsfn-control"] = [waits, waits, ready]
    cluster.answers[f"{APPS}/replicasets"] = [replica_sets]
    before = pod_of({**OF_CONTROL, "pod-template-hash": "old"}, "control", 7)
    newest = pod_of({**OF_CONTROL, "pod-template-hash": "new"}, "control", 0)
    cluster.answers[PODS] = [{"items": [before, newest], "metadata": {}}]
    cluster.answers["/api/v1/namespaces/models/events"] = [{"items": [], "metadata": {}}]
    return ready


def test_pods_of_a_deployment_as_it_was_say_nothing_of_it_as_it_is(
    cluster: ScriptedCluster,
) -> None:
    sets = [replica_set("2", "old"), replica_set("3", "new")]
    ready = know_deployment(cluster, {"items": sets, "metadata": {}})
    assert wait_ready(cluster.objects, ready, 10, lambda sentence: None) == ready


def test_a_deployment_that_has_not_been_looked_at_is_not_judged_by_its_pods(
    cluster: ScriptedCluster,
) -> None:
    ready = know_deployment(cluster, {"items": [replica_set("3", "old")], "metadata": {}})
    changed = {**ready, "metadata": {**ready["metadata"], "generation": 4}}
    cluster.answers[f"{APPS}/deployments/dsfn-control"] = [changed, changed, ready]
    assert wait_ready(cluster.objects, ready, 10, lambda sentence: None) == ready


def test_who_may_not_see_replica_sets_is_told_of_all_pods(cluster: ScriptedCluster) -> None:
    message = (
        'replicasets.apps is forbidden: User "eve" cannot list resource "replicasets" in API'
        ' group "apps" in the namespace "models"'
    )
    ready = know_deployment(cluster, {"code": 403, "message": message})
    with pytest.raises(NotReady, match=r"ends after its start \(exit code 1, 7 times\)"):
        wait_ready(cluster.objects, ready, 10, lambda sentence: None)


def test_pods_of_a_daemon_as_it_was_say_nothing_of_it_as_it_is(cluster: ScriptedCluster) -> None:
    know_kinds(cluster)
    kind, annotation = "DaemonSet", "deprecated.daemonset.template.generation"
    waits, ready = (of_workload(kind, annotation, each) for each in (False, True))
    labels = {"app.kubernetes.io/component": "agent"}
    before = pod_of({**labels, "pod-template-generation": "2"}, "agent", 7)
    cluster.answers["/apis/apps/v1/namespaces/models-agents/daemonsets/dsfn-agent"] = [waits, ready]
    agents = "/api/v1/namespaces/models-agents"
    cluster.answers[f"{agents}/pods"] = [{"items": [before], "metadata": {}}]
    cluster.answers[f"{agents}/events"] = [{"items": [], "metadata": {}}]
    assert wait_ready(cluster.objects, ready, 10, lambda sentence: None) == ready


SERVING = "serving.knative.dev/v1"
SERVICES = f"/apis/{SERVING}/namespaces/models"


def service(revision: str) -> Any:
    """One whose revisions Knative names; "" while it has not named any."""
    status = {"observedGeneration": 1, "latestCreatedRevisionName": revision} if revision else {}
    return {
        "apiVersion": SERVING,
        "kind": "Service",
        "metadata": {"name": "bare", "namespace": "models", "generation": 1},
        "spec": {"template": {"spec": {"containers": [{"name": "user-container"}]}}},
        "status": status,
    }


def test_a_service_whose_revisions_have_no_name_of_their_own_is_awaited(
    cluster: ScriptedCluster,
) -> None:
    kinds = {"services": "Service", "revisions": "Revision"}
    cluster.answers[f"/apis/{SERVING}"] = [resources(kinds)]
    cluster.answers["/api/v1"] = [resources({"pods": "Pod"})]
    cluster.answers["/api/v1/namespaces/models/pods"] = [{"items": [], "metadata": {}}]
    cluster.answers[f"{SERVICES}/services/bare"] = [service(""), service("bare-00001")]
    failed = {"type": "Ready", "status": "False", "message": "Revision bare-00001 is no good."}
    revision = {"apiVersion": SERVING, "kind": "Revision", "metadata": {"name": "bare-00001"}}
    cluster.answers[f"{SERVICES}/revisions/bare-00001"] = [
        {**revision, "status": {"conditions": [failed]}}
    ]
    with pytest.raises(NotReady, match="revision bare-00001 is no good"):
        wait_ready(cluster.objects, service(""), 1, lambda sentence: None)


def namespace(labels: Any) -> Any:
    metadata = {"name": "models", "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def test_pods_that_a_namespace_or_a_deployment_waits_for_are_named(
    cluster: ScriptedCluster,
) -> None:
    know_kinds(cluster)
    going = {"deletionTimestamp": "2126-01-01T00:00:00Z", "namespace": "models"}
    pods = [
        {"metadata": {**going, "name": "theirs"}},
        {"metadata": {**going, "name": "control", "labels": OF_CONTROL}},
        {"metadata": {"namespace": "models", "name": "stays", "labels": OF_CONTROL}},
    ]
    cluster.answers[PODS] = [{"items": pods, "metadata": {}}]
    deployment = of_workload("Deployment", "deployment.kubernetes.io/revision", ready=True)
    whole, one = (stay_of(cluster.objects, each) for each in (namespace({}), deployment))
    until = "may still answer calls, until 00:00:00 UTC at the latest"
    assert whole.reason == f"its pods theirs, control {until}"
    assert one.reason == f"its pod control {until}"


def test_who_may_not_see_pods_is_told_what_the_object_says(cluster: ScriptedCluster) -> None:
    know_kinds(cluster)
    message = 'pods is forbidden: User "eve" cannot list resource "pods" in API group ""'
    cluster.answers[PODS] = [{"code": 403, "message": message}]
    stay = stay_of(cluster.objects, namespace({}))
    assert (stay.reason, stay.grace_s) == ("something that it owns is still there", 0.0)
