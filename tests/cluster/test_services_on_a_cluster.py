"""Functions' Services on a real cluster: they come up, and where they do not it is told why."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from deadlines import eventually
from live_cluster import LiveCluster, switched_off

from dsfn.functions.errors import ClusterRefused, NotReady
from dsfn.functions.placement import Placement
from dsfn.knative.cluster.changes import plan
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.features import enabling
from dsfn.knative.manifests.words import FUNCTION_LABEL

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def hello(cluster: LiveCluster) -> Any:
    """A Service that is ready. Tests put revisions that never are on top of it."""
    return cluster.deploy(cluster.hello("hello"))


@pytest.fixture
def old(cluster: LiveCluster, hello: Any) -> Iterator[Any]:
    """It serves before, during and after what a test does to it."""
    assert cluster.get(hello).status_code == 200
    yield hello
    assert cluster.get(hello).status_code == 200
    cluster.deploy(cluster.hello("hello"))


def test_a_function_becomes_ready_and_answers(cluster: LiveCluster, hello: Any) -> None:
    answer = cluster.get(hello)
    assert answer.status_code == 200, answer.text


def test_applying_twice_changes_nothing(cluster: LiveCluster, hello: Any) -> None:
    manifest = cluster.hello("hello")
    (planned,) = plan(cluster.objects, [manifest])
    assert (planned.is_new, planned.changes) == (False, ())
    again = cluster.objects.apply(manifest)
    assert again["metadata"]["generation"] == hello["metadata"]["generation"]


def test_a_change_is_shown_before_it_is_made(cluster: LiveCluster, hello: Any) -> None:
    (planned,) = plan(cluster.objects, [cluster.hello("hello", concurrency=3)])
    changed = {change.path: (change.before, change.after) for change in planned.changes}
    assert changed["spec.template.spec.containerConcurrency"] == (1, 3)
    live: Any = cluster.objects.read(cluster.hello("hello"))
    assert live["spec"]["template"]["spec"]["containerConcurrency"] == 1


def why(cluster: LiveCluster, service: Any, deadline_s: float) -> str:
    """Why a Service is not ready, which is known within its deadline."""
    began = time.monotonic()
    with pytest.raises(NotReady) as raised:
        cluster.deploy(service, deadline_s)
    assert time.monotonic() - began < deadline_s + 5
    message = raised.value.message
    start = f"Service hello in namespace {cluster.namespace} is not ready: "
    assert message.startswith(start) and "\n" not in message
    return message.removeprefix(start)


# Of most images Knative looks up the digest before it makes a pod. Of dev.local it does not.
@pytest.mark.parametrize("image", ["registry.invalid/nobody/nothing:1", "dev.local/nothing:v1"])
@pytest.mark.usefixtures("old")
def test_an_image_that_cannot_be_pulled_is_told_before_the_deadline(
    cluster: LiveCluster, image: str
) -> None:
    began = time.monotonic()
    assert image in why(cluster, cluster.hello("hello", image=image), 90)
    assert time.monotonic() - began < 45


@pytest.mark.usefixtures("old")
def test_a_crash_loop_is_told_with_the_last_words(cluster: LiveCluster) -> None:
    broken = cluster.hello("hello", env={"GOMEMLIMIT": "much"})
    broken["spec"]["template"]["metadata"]["name"] = "hello-crash"
    told = why(cluster, broken, 90)
    assert told.startswith("its container ends after its start (exit code 2")
    assert "it last printed: " in told


@pytest.mark.usefixtures("old")
def test_a_pod_that_no_node_takes_is_told(cluster: LiveCluster) -> None:
    wanted = Placement(gpu_resource="gpus.example/none")
    told = why(cluster, cluster.hello("hello", gpu=1, placement=wanted), 10)
    assert told.startswith("no node takes its pod (")
    assert "Insufficient gpus.example/none" in told


@pytest.mark.usefixtures("old")
def test_a_container_that_is_never_ready_is_told(cluster: LiveCluster) -> None:
    deaf = cluster.hello("hello")
    template = deaf["spec"]["template"]
    template["metadata"]["name"] = "hello-deaf"
    # Another port is refused; this is a protocol that the server does not speak.
    template["spec"]["containers"][0]["readinessProbe"] = {"grpc": {}}
    told = why(cluster, deaf, 20)
    assert told.startswith("its container runs and does not get ready")


@pytest.mark.usefixtures("old")
def test_what_knative_does_not_take_is_told_before_anything_changes(cluster: LiveCluster) -> None:
    manifest = cluster.hello("hello", timeout_s=86_400)
    with pytest.raises(ClusterRefused) as raised:
        plan(cluster.objects, [manifest])
    assert raised.value.message.startswith(
        f"Service hello in namespace {cluster.namespace} is refused: validation failed: "
    )
    assert "timeoutSeconds" in raised.value.message and "\n" not in raised.value.message


SPREAD = "kubernetes.podspec-topologyspreadconstraints"
PRIORITY = 1000


@pytest.fixture
def priority_class(objects: Objects) -> Iterator[str]:
    """The name of one."""
    found: Any = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": f"dsfn-test-{uuid.uuid4().hex[:8]}"},
        "value": PRIORITY,
        "preemptionPolicy": "Never",
    }
    objects.apply(found)
    yield found["metadata"]["name"]
    objects.delete(found)


def refusal(cluster: LiveCluster, service: Any) -> str:
    """Why Knative does not take a Service, "" where it does."""
    try:
        plan(cluster.objects, [service])
    except ClusterRefused as error:
        return error.message
    return ""


def test_a_pod_is_placed_as_its_function_asks_and_only_where_the_flags_are_on(
    cluster: LiveCluster, priority_class: str
) -> None:
    wanted = Placement({"kubernetes.io/os": "linux"}, priority_class, ("kubernetes.io/hostname",))
    service = cluster.hello("placed", placement=wanted, min_replicas=1)
    cluster.objects.apply(enabling())
    with switched_off(cluster.objects, SPREAD):
        told = eventually(lambda: refusal(cluster, service), "Knative to hear of the flag")
    assert told.startswith(f"Service placed in namespace {cluster.namespace} is refused: ")
    assert told.endswith(
        "must not set the field(s): spec.template.spec.topologySpreadConstraints;"
        " `dsfn platform upgrade --enable-features` has Knative allow them."
    )
    eventually(lambda: not refusal(cluster, service), "Knative to hear of the flag")

    cluster.deploy(service)
    query = {"labelSelector": f"{FUNCTION_LABEL}=placed"}
    (pod,) = cluster.objects.list("v1", "Pod", cluster.namespace, query)
    spec = pod["spec"]
    assert spec["nodeSelector"] == wanted.node_selector
    assert (spec["priorityClassName"], spec["priority"]) == (priority_class, PRIORITY)
    (spread,) = spec["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["maxSkew"]) == ("kubernetes.io/hostname", 1)
    # What is spread are this function's pods.
    assert spread["labelSelector"] == {"matchLabels": {FUNCTION_LABEL: "placed"}}
    node = cluster.objects.cluster.document(f"/api/v1/nodes/{spec['nodeName']}")
    assert wanted.node_selector.items() <= node["metadata"]["labels"].items()
