"""One sentence on why something is not ready, from what a cluster says of it."""

from __future__ import annotations

from typing import Any

import pytest

from dsfn.knative.cluster.evidence import Evidence, PodEvidence
from dsfn.knative.cluster.readiness import is_ready, why_not, why_there
from dsfn.knative.cluster.why import explain

SERVING = "serving.knative.dev/v1"


def service(*conditions: tuple[str, str, str], generation: int = 1, seen: int = 1) -> Any:
    return {
        "apiVersion": SERVING,
        "kind": "Service",
        "metadata": {"name": "echo", "namespace": "dsfn", "generation": generation},
        "status": {
            "observedGeneration": seen,
            "conditions": [
                {"type": type_, "status": status, "message": message}
                for type_, status, message in conditions
            ],
        },
    }


def pod(state: dict[str, Any] | None = None, log: str = "", **others: Any) -> PodEvidence:
    """A pod whose function's container is in this state."""
    events = tuple(others.pop("events", ()))
    conditions = others.pop("conditions", [])
    container = {"name": "function", "image": "reg.example/a:1", "state": state or {}, **others}
    queue = {"name": "queue-proxy", "image": "q", "state": {"running": {}}, "ready": False}
    statuses = [queue, {"ready": True, **container}]
    document = {"status": {"conditions": conditions, "containerStatuses": statuses}}
    return PodEvidence(document, events, log)


def reason_of(*pods: PodEvidence) -> Any:
    waiting = service(("Ready", "Unknown", "Waiting for load balancer."))
    return explain(Evidence(waiting, None, pods))


def test_an_image_that_cannot_be_pulled() -> None:
    first = reason_of(pod({"waiting": {"reason": "ErrImagePull", "message": "not found"}}))
    assert first.text == "the image reg.example/a:1 cannot be pulled (not found)"
    assert not first.is_final
    assert reason_of(pod({"waiting": {"reason": "ImagePullBackOff"}})).is_final


def test_a_crash_loop_with_its_exit_code_and_last_words() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}
    ended = {"terminated": {"exitCode": 3, "reason": "Error"}}
    log = "Traceback\nValueError: no model.\n"
    found = reason_of(pod(waiting, log.rstrip(), lastState=ended, restartCount=4))
    assert found.text == "its container ends after its start (exit code 3, 4 times)"
    assert found.with_last_words == f"{found.text}; it last printed: ValueError: no model"
    assert (found.is_final, found.log) == (True, log.rstrip())


def test_a_first_crash_may_be_the_last() -> None:
    found = reason_of(pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, restartCount=0))
    assert found.text == "its container ends after its start (out of memory)"
    assert not found.is_final


def test_a_pod_that_no_node_takes() -> None:
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
    }  # fmt: skip
    found = reason_of(pod(conditions=[condition]))
    assert found.text == (
        "no node takes its pod (0/3 nodes are available: 3 Insufficient nvidia.com/gpu)"
    )
    # A node may be added meanwhile.
    assert not found.is_final


def test_a_container_that_runs_and_is_never_ready() -> None:
    events = ["Started container", "Readiness probe failed: HTTP probe failed with statuscode: 503"]
    found = reason_of(pod({"running": {}}, "loading", events=events))
    # What it prints meanwhile is no news of its state.
    assert found.text == (
        "its container runs and does not get ready (Readiness probe failed: HTTP probe failed"
        " with statuscode: 503)"
    )
    assert found.with_last_words == f"{found.text}; it last printed: loading"


def test_a_container_that_cannot_be_made() -> None:
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}}
    assert reason_of(pod(state)).text == 'its container cannot be made (secret "s" not found)'


def test_without_a_pod_it_is_what_knative_says_of_the_revision() -> None:
    revision = service(("ResourcesAvailable", "False", "exceeded quota: dsfn"))
    own = service(("Ready", "False", "Revision failed"))
    assert explain(Evidence(own, revision)).text == "exceeded quota: dsfn"
    assert explain(Evidence(own)).text == "revision failed"
    assert explain(Evidence(service())).text == "nothing has been said of it yet"


def test_what_has_failed_comes_before_what_is_awaited() -> None:
    conditions = [
        ("Ready", "False", "sum"), ("RoutesReady", "Unknown", "waits"), ("Healthy", "False", "ill"),
    ]  # fmt: skip
    assert why_not(service(*conditions)) == "ill"


@pytest.mark.parametrize(
    ("document", "ready"),
    [
        (service(("Ready", "True", "")), True),
        (service(("Ready", "Unknown", "")), False),
        # Its status is still about what it said before.
        (service(("Ready", "True", ""), generation=2), False),
        ({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {}}, True),
        (
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"generation": 1},
                "spec": {"replicas": 2},
                "status": {
                    "observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 1,
                },
            },
            False,
        ),
    ],
)  # fmt: skip
def test_readiness_is_about_what_an_object_says_now(document: Any, ready: bool) -> None:
    assert is_ready(document) is ready


def test_a_deployment_is_explained_by_its_own_container() -> None:
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": "no secret"}}
    status = {"name": "control", "image": "a", "state": waiting, "ready": False}
    document = {"status": {"containerStatuses": [status]}}
    found = explain(Evidence(service(), None, (PodEvidence(document, (), "", "control"),)))
    assert found.text == "its container cannot be made (no secret)"


@pytest.mark.parametrize(("updated", "ready"), [(2, True), (1, False)])
def test_a_daemon_is_ready_once_each_node_has_the_new_one(updated: int, ready: bool) -> None:
    status = {
        "observedGeneration": 1,
        "desiredNumberScheduled": 2,
        "updatedNumberScheduled": updated,
        "numberAvailable": 2,
    }
    metadata = {"name": "a", "generation": 1}
    daemons = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "status": status}
    assert is_ready(daemons) == ready


def test_a_namespace_that_goes_says_what_is_left_in_it() -> None:
    def going(**held: str) -> Any:
        conditions = [
            {"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "all well"},
            *({"type": type_, "status": "True", "message": text} for type_, text in held.items()),
        ]
        return {"kind": "Namespace", "status": {"conditions": conditions}}

    assert why_there(going(NamespaceContentRemaining="3 pods")) == "3 pods"
    assert why_there(going()) == "something that it owns is still there"
    unavailable = {"type": "Available", "status": "False", "message": "too few replicas"}
    deployment = {"kind": "Deployment", "status": {"conditions": [unavailable]}}
    assert why_there(deployment) == "something that it owns is still there"
