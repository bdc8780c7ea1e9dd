"""Waiting for an object, whatever the API server does meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_cluster import ScriptedCluster, scripted_cluster

from dsfn.functions.errors import (
    ClusterUnreachable,
    MissingKinds,
    NotFound,
    NotReady,
    UsageError,
)
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
            "DSFN_LEDGER": "postgresql://db",
            "DSFN_LEDGER_KEY": "PEM",
            "DSFN_API_KEY": "dsfn_local_k",
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
