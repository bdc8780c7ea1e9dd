"""Parts of the platform are rolled out anew under load: no call fails, and each is billed once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from deadlines import eventually
from live_platform import LivePlatform, live_platform
from platform_load import by_url, check_calls
from postgres_server import PostgresServer
from s3_server import S3Server
from steady_load import load

from dsfn.knative.cluster.objects import Objects

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

APP = """
import time

import dsfn


@dsfn.function(min_replicas=1, max_replicas=1, concurrency=8, memory="256MiB")
def pause(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
"""
CALLERS, CALL_S = 3, 3.0
ROLLED_OUT_S = 150.0


@pytest.fixture
def without_agents(
    objects: Objects,
    database: str,
    s3: S3Server,
    any_postgres: PostgresServer,
    tmp_path: Path,
) -> Iterator[LivePlatform]:
    """A platform whose functions know of no agents: they post their rows themselves."""
    with live_platform(objects, database, s3, any_postgres, tmp_path) as platform:
        (container,) = deployment(platform)["spec"]["template"]["spec"]["containers"]
        for variable in container["env"]:
            if variable["name"] == "DSFN_AGENTS":
                variable["value"] = "false"
        roll_out(platform, {"spec": {"containers": [container]}})
        (tmp_path / "app.py").write_text(APP, encoding="utf-8")
        platform.deploy(tmp_path / "app.py")
        yield platform


def deployment(platform: LivePlatform) -> Any:
    """That of the control service."""
    metadata = {"name": "dsfn-control", "namespace": platform.namespace}
    return platform.objects.read(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
    )


def daemons(platform: LivePlatform) -> Any:
    """The DaemonSet of the agents."""
    metadata = {"name": "dsfn-agent", "namespace": platform.agents.namespace}
    return platform.objects.read(
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata}
    )


def restarted() -> dict[str, Any]:
    """A change of a template, as `kubectl rollout restart` makes it."""
    return {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": str(time.time())}}}


def roll_out(platform: LivePlatform, template: Any) -> None:
    """Changes the template of the control service's pods, and waits until all have changed."""
    platform.objects.change(deployment(platform), {"spec": {"template": template}})

    def is_done() -> bool:
        found, query = deployment(platform), {"labelSelector": platform.controls.selector}
        status = found["status"]
        # Those that are about to go, too.
        pods = list(platform.objects.list("v1", "Pod", platform.namespace, query))
        return bool(
            status["observedGeneration"] == found["metadata"]["generation"]
            and status.get("updatedReplicas") == status.get("readyReplicas") == len(pods) == 2
        )

    eventually(is_done, "the control service to be rolled out", ROLLED_OUT_S)


def test_no_call_fails_while_the_control_service_is_rolled_out(
    without_agents: LivePlatform,
) -> None:
    platform = without_agents

    def ask(key: str) -> httpx.Response:
        return platform.ask_control("/functions/pause", {"seconds": CALL_S}, key)

    first = platform.leader()
    with load(f"roll-out-{uuid.uuid4().hex[:6]}", ask, CALLERS) as calls:
        time.sleep(CALL_S)
        roll_out(platform, restarted())
    assert platform.leader() not in ("", first)
    assert {each.tries for each in calls.answered} == {1}
    rows = platform.rows("pause")
    assert sorted(id_ for id_, _, _ in rows) == sorted(each.id for each in calls.answered)
    assert {status for _, _, status in rows} == {"succeeded"}


def test_no_call_fails_while_the_agents_are_rolled_out(whole: LivePlatform) -> None:
    before = {each["metadata"]["uid"] for each in whole.pods(whole.agents)}

    def is_done() -> bool:
        now = whole.pods(whole.agents)
        return (
            whole.ready(whole.agents) == len(now) == len(before)
            and not {each["metadata"]["uid"] for each in now} & before
        )

    with load(f"agents-{uuid.uuid4().hex[:6]}", by_url(whole), CALLERS) as calls:
        time.sleep(CALL_S)
        whole.objects.change(daemons(whole), {"spec": {"template": restarted()}})
        eventually(is_done, "the agents to be rolled out", ROLLED_OUT_S)
        time.sleep(CALL_S)
    assert {each.tries for each in calls.answered} == {1}
    check_calls(whole, calls)
