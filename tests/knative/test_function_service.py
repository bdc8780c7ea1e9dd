"""A function's options as a Knative Service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from knative_schemas import check_against_schema
from revisions import make_revision

from dsfn.functions.errors import UsageError
from dsfn.functions.options import Options
from dsfn.functions.placement import Placement
from dsfn.knative.manifests.function import SERVING, ServiceSettings, function_service
from dsfn.knative.manifests.proof import proof
from dsfn.knative.manifests.traffic import Target
from dsfn.knative.pod.document import Publication
from dsfn.runtime.config import Limits
from dsfn.runtime.model import Revision

SETTINGS = ServiceSettings(
    namespace="dsfn",
    image="registry.example/dsfn/runtime:1",
    store="s3://models/prod",
    control_url="http://dsfn-control",
    secret="functions",
)
DOCUMENT = Publication("ab" * 32, ("torch", "numpy"))
PLACEMENT = Placement(
    node_selector={"gpu.example/kind": "h100"},
    priority_class="interactive",
    spread=("topology.kubernetes.io/zone", "kubernetes.io/hostname"),
)


def revision_of(number: int = 1, **options: Any) -> Revision:
    name = options.pop("name", "echo")
    return replace(make_revision(number, name), options=Options(name, **options))


def service_of(**options: Any) -> Any:
    return function_service(revision_of(**options), DOCUMENT, SETTINGS)


def template_of(**options: Any) -> Any:
    return service_of(**options)["spec"]["template"]


def container_of(**options: Any) -> Any:
    (container,) = template_of(**options)["spec"]["containers"]
    return container


@pytest.mark.parametrize("number", [1, 2], ids=["with a snapshot", "without one"])
def test_knative_knows_every_field(number: int) -> None:
    options = Options("echo", gpu=1, memory_bytes=2**30, placement=PLACEMENT)
    revision = replace(make_revision(number), options=options)
    check_against_schema(function_service(revision, DOCUMENT, SETTINGS))


def test_calls_at_once_and_their_time_are_the_functions() -> None:
    spec = template_of(concurrency=7, timeout_s=12.5)["spec"]
    assert spec["containerConcurrency"] == 7
    # The function's own timeout, and the wait for a replica, are answered before Knative gives up.
    assert spec["timeoutSeconds"] == spec["responseStartTimeoutSeconds"] == 13 + 40


@pytest.mark.parametrize(
    ("remove_after_s", "window", "retention"),
    [(0, "6s", "0s"), (20, "20s", "0s"), (600, "60s", "540s"), (90_000, "60s", "3600s")],
)
def test_the_last_pod_goes_as_long_after_the_last_call_as_a_replica_does(
    remove_after_s: float, window: str, retention: str
) -> None:
    found = template_of(park_after_s=0, remove_after_s=remove_after_s, min_replicas=0)
    annotations = found["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/window"] == window
    key = "autoscaling.knative.dev/scale-to-zero-pod-retention-period"
    assert annotations[key] == retention


@pytest.mark.parametrize(
    ("park_after_s", "remove_after_s"), [(0, 6), (1, 20), (60, 600), (600, 3600), (3000, 3660)]
)
def test_a_pod_stays_after_it_has_parked_for_as_long_as_a_replica_does(
    park_after_s: float, remove_after_s: float
) -> None:
    found = template_of(gpu=0.5, park_after_s=park_after_s, remove_after_s=remove_after_s)
    annotations = found["metadata"]["annotations"]
    kept_s = sum(
        int(annotations[f"autoscaling.knative.dev/{name}"].removesuffix("s"))
        for name in ("window", "scale-to-zero-pod-retention-period")
    )
    assert park_after_s < kept_s == remove_after_s


def test_there_are_as_many_pods_as_replicas() -> None:
    annotations = template_of(min_replicas=2, max_replicas=5)["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/min-scale"] == "2"
    assert annotations["autoscaling.knative.dev/max-scale"] == "5"


@pytest.mark.parametrize(
    ("gpu", "named", "wanted"),
    [
        (1, "", {"nvidia.com/gpu": "1"}),
        (4, "", {"nvidia.com/gpu": "4"}),
        (0.25, "", {"nvidia.com/gpu.shared": "1"}),
        (0.5, "nvidia.com/mig-3g.40gb", {"nvidia.com/mig-3g.40gb": "1"}),
        (2, "amd.com/gpu", {"amd.com/gpu": "2"}),
        (0, "amd.com/gpu", {}),
    ],
)
def test_gpus_are_asked_for_under_the_clusters_name(
    gpu: float, named: str, wanted: dict[str, str]
) -> None:
    resources = container_of(gpu=gpu, placement=Placement(gpu_resource=named))["resources"]
    assert resources.get("limits", {}) == wanted
    assert {k: v for k, v in resources["requests"].items() if "/" in k} == wanted


def test_memory_is_what_the_processes_and_the_snapshot_take_and_the_function_may() -> None:
    revision = revision_of(2**40 + 1, memory_bytes=2**30)
    service = function_service(revision, DOCUMENT, SETTINGS)
    (container,) = service["spec"]["template"]["spec"]["containers"]
    loaded = 2**40 + 1 + (512 << 20)
    assert container["resources"]["requests"]["memory"] == str(loaded)
    assert container["resources"]["limits"]["memory"] == str(loaded + 2**30)
    assert "limits" not in container_of()["resources"]


def test_a_placement_is_asked_for() -> None:
    spec = template_of(placement=PLACEMENT)["spec"]
    assert spec["nodeSelector"] == {"gpu.example/kind": "h100"}
    assert spec["priorityClassName"] == "interactive"
    assert [c["topologyKey"] for c in spec["topologySpreadConstraints"]] == list(PLACEMENT.spread)
    asked = {"nodeSelector", "priorityClassName", "topologySpreadConstraints"}
    assert not asked & set(template_of()["spec"])


def test_the_pod_is_restricted() -> None:
    security = container_of()["securityContext"]
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not security["allowPrivilegeEscalation"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert template_of()["spec"]["automountServiceAccountToken"] is False


def test_a_pod_without_a_snapshot_has_no_volumes_and_keeps_to_a_limit_by_itself() -> None:
    spec = function_service(revision_of(2), DOCUMENT, SETTINGS)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert "volumes" not in spec and "volumeMounts" not in container
    told = {each["name"]: each.get("value", "") for each in container["env"]}
    assert int(told["DSFN_DISK_BYTES"]) > 0


def test_volumes_of_a_pod_with_a_snapshot_have_limits() -> None:
    container = container_of()
    mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    volumes = {v["name"]: v["emptyDir"] for v in template_of()["spec"]["volumes"]}
    assert set(mounts) == {"/tmp", "/dsfn"}
    assert all("sizeLimit" in volumes[name] for name in mounts.values())
    assert "DSFN_DISK_BYTES" not in {each["name"] for each in container["env"]}


def test_the_pods_are_told_that_their_revision_is_proved_once_it_is() -> None:
    revision: Any = {
        "apiVersion": SERVING,
        "kind": "Revision",
        "metadata": {"name": template_of()["metadata"]["name"], "namespace": "models", "uid": "1"},
    }
    proved = proof(revision)
    (told,) = [each for each in container_of()["env"] if each["name"] == "DSFN_PROVED"]
    reference = told["valueFrom"]["configMapKeyRef"]
    assert reference["name"] == proved["metadata"]["name"]
    assert proved["data"][reference["key"]] == "true"
    assert reference["optional"]
    (owner,) = proved["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Revision", revision["metadata"]["name"])


def test_a_pod_is_not_looked_at_for_life_while_its_replica_may_still_be_loading() -> None:
    delay_s = container_of()["livenessProbe"]["initialDelaySeconds"]
    assert delay_s >= Limits().start_timeout_s


def test_the_pod_is_told_where_everything_is_and_no_secret() -> None:
    container = container_of()
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["DSFN_REVISION"] == DOCUMENT.digest
    assert told["DSFN_LIBRARIES"] == "torch,numpy"
    assert told["DSFN_STORE"] == "s3://models/prod"
    assert told["DSFN_CONTROL"] == "http://dsfn-control"
    assert told["DSFN_TENANT"] == "default"
    assert told["DSFN_PROXY_PORT"] == "8022"  # queue-proxy's, at every version of Knative
    assert container["envFrom"] == [{"secretRef": {"name": "functions"}}]


def test_a_revisions_name_follows_from_what_it_is() -> None:
    def name(document: Publication = DOCUMENT, image: str = "a/b:1", **options: Any) -> str:
        settings = replace(SETTINGS, image=image)
        service = function_service(revision_of(**options), document, settings)
        found: str = service["spec"]["template"]["metadata"]["name"]
        return found

    assert name() == name()
    assert (
        len({name(), name(Publication("cd" * 32, ())), name(image="a/b:2"), name(concurrency=2)})
        == 4
    )
    assert name().startswith("echo-")


def test_a_long_name_leaves_room_for_the_revisions_and_two_stay_two() -> None:
    one, other = (service_of(name="a" * 62 + last) for last in "bc")
    names = [each["metadata"]["name"] for each in (one, other)]
    assert names[0] != names[1]
    for service in (one, other):
        assert len(service["spec"]["template"]["metadata"]["name"]) <= 63
        prefix = service["metadata"]["name"] + "-"
        assert service["spec"]["template"]["metadata"]["name"].startswith(prefix)
    assert one["metadata"]["labels"]["dsfn.dev/function"] == "a" * 62 + "b"


def test_traffic_is_shared_out_and_tagged() -> None:
    traffic = (Target(90, "echo-0123456789"), Target(10, tag="canary"))
    service = function_service(revision_of(), DOCUMENT, SETTINGS, traffic)
    check_against_schema(service)
    assert service["spec"]["traffic"] == [
        {"percent": 90, "latestRevision": False, "revisionName": "echo-0123456789"},
        {"percent": 10, "latestRevision": True, "tag": "canary"},
    ]


@pytest.mark.parametrize(
    "traffic",
    [
        (),
        (Target(99),),
        (Target(110), Target(-10, "r")),
        (Target(50, tag="a"), Target(50, "r", tag="a")),
        (Target(100, tag="a-tag-too-long-for-it"),),
    ],
)
def test_traffic_that_makes_no_sense_is_refused(traffic: tuple[Target, ...]) -> None:
    with pytest.raises(UsageError):
        function_service(revision_of(), DOCUMENT, SETTINGS, traffic)


def test_one_call_starts_one_pod_of_a_function_that_takes_one_at_a_time() -> None:
    key = "autoscaling.knative.dev/target-utilization-percentage"
    assert template_of(concurrency=1)["metadata"]["annotations"][key] == "100"
    assert key not in template_of(concurrency=8)["metadata"]["annotations"]
