"""A deployment to a cluster waits for its Triggers: what the Broker takes before is lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from acting_cluster import BROKEN, ActingCluster, acting_cluster
from deadlines import eventually
from live_node import DeployFailed, LiveNode
from live_pod import s3_store
from node_on_cluster import KEY, start_control
from ports import free_port
from s3_server import S3Server

HEARS = """
import dsfn


@dsfn.on(type="word.due")
@dsfn.function
def hears(word: str = "") -> int:
    return 1
"""


def trigger(cluster: ActingCluster) -> Any:
    """As the cluster has it."""
    return cluster.of_kind("Trigger").get("hears")


def types_heard(cluster: ActingCluster) -> list[str]:
    """The types of events that the Trigger is for, none without a Trigger."""
    if (found := trigger(cluster)) is None:
        return []
    (any_of,) = found["spec"]["filters"]
    return [each["exact"]["type"] for one in any_of["any"] for each in one["all"]]


def test_a_deployment_waits_for_its_trigger_and_fails_where_that_is_not_ready(
    s3: S3Server, tmp_path: Path, require: Callable[[str, str], None]
) -> None:
    require("kubernetes", "pip install 'dsfn[knative]'")
    store, port = s3_store(s3), free_port()
    source = tmp_path / "app.py"
    source.write_text(HEARS, encoding="utf-8")

    def start(start_timeout_s: float = 600.0) -> LiveNode:
        place = tmp_path / "control"
        return start_control(place, cluster, store, port, start_timeout_s=start_timeout_s)

    secret = {**store.variables, "DSFN_API_KEY": KEY}
    with acting_cluster(tmp_path / "acting", secret) as cluster:
        control = start()
        try:
            cluster.images["hears"] = BROKEN
            with pytest.raises(DeployFailed, match="cannot be pulled"):
                control.deploy(source)
            assert trigger(cluster) is None
            cluster.objects.clear()  # the revision with that image, too
            cluster.deaf.add("hears")
            cluster.asleep.add("hears")  # Knative looks at once at what changes, later at the rest
            with ThreadPoolExecutor(1) as threads:
                try:
                    deploying = threads.submit(control.deploy, source)
                    # Nothing calls the code before it is live.
                    eventually(lambda: types_heard(cluster) == ["dev.dsfn.nothing"], "a Trigger")
                    assert control.http.get("/functions/hears").status_code == 404
                finally:
                    cluster.deaf.clear()
                deploying.result()
            assert types_heard(cluster) == ["word.due"]
            assert [each["status"] for each in trigger(cluster)["status"]["conditions"]] == ["True"]
            assert control.stop() == 0, control.log
            cluster.deaf.add("hears")
            control = start(start_timeout_s=2)
            words = "Trigger hears.* is not ready: the subscription is not there yet"
            with pytest.raises(DeployFailed, match=words):
                control.deploy(source)
            assert types_heard(cluster) == ["word.due"]
            assert control.value("hears") == 1
            assert control.stop() == 0, control.log
        finally:
            control.end()


def test_without_a_broker_a_deployment_fails_at_once_and_says_what_brings_it_back(
    s3: S3Server, tmp_path: Path, require: Callable[[str, str], None]
) -> None:
    require("kubernetes", "pip install 'dsfn[knative]'")
    store = s3_store(s3)
    source = tmp_path / "app.py"
    source.write_text(HEARS, encoding="utf-8")
    words = (
        "Trigger hears in namespace functions is not ready: there is no Broker dsfn there; `dsfn"
        " platform install --namespace functions` brings it back."
    )
    with acting_cluster(
        tmp_path / "acting", {**store.variables, "DSFN_API_KEY": KEY}
    ) as cluster, ThreadPoolExecutor(1) as threads:  # fmt: skip
        control = start_control(tmp_path / "control", cluster, store, free_port())
        try:
            cluster.has_broker = False
            with pytest.raises(DeployFailed) as failed:
                control.deploy(source)
            assert str(failed.value) == words
            assert not cluster.of_kind("Service") and trigger(cluster) is None
            # The same of one that goes while the Trigger is awaited.
            cluster.has_broker = True
            cluster.deaf.add("hears")
            deploying = threads.submit(control.deploy, source)
            eventually(lambda: trigger(cluster) is not None, "a Trigger")
            cluster.has_broker = False
            with pytest.raises(DeployFailed) as failed:
                deploying.result()
            assert str(failed.value) == words
            cluster.has_broker = True
            cluster.deaf.clear()
            control.deploy(source)
            assert control.value("hears") == 1
            assert control.stop() == 0, control.log
        finally:
            control.end()
