"""What `dsfn platform install` puts into a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from knative_schemas import check_against_schema

from dsfn.knative.manifests.accounts import CONTROL_RULES
from dsfn.knative.manifests.control import ControlSettings, control_objects
from dsfn.knative.manifests.features import enabling, missing_features
from dsfn.knative.manifests.platform import KINDS, platform_objects

OBJECTS: Any = platform_objects("models")


def of_kind(kind: str) -> list[Any]:
    return [each for each in OBJECTS if each["kind"] == kind]


def test_everything_is_in_the_namespace_which_comes_first_and_is_known_as_ours() -> None:
    first, *others = OBJECTS
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", "models")
    assert {each["metadata"]["namespace"] for each in others} == {"models"}
    for each in OBJECTS:
        assert each["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "dsfn"


def test_each_kind_is_one_that_uninstall_looks_for() -> None:
    kinds = {(each["apiVersion"], each["kind"]) for each in OBJECTS[1:]}
    assert kinds == set(KINDS)


def test_the_namespace_takes_restricted_pods_only() -> None:
    (namespace,) = of_kind("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_broker_is_one_that_eventing_knows() -> None:
    (broker,) = of_kind("Broker")
    check_against_schema(broker)


def test_no_right_goes_beyond_the_namespace_and_none_is_for_everything() -> None:
    assert not {each["kind"] for each in OBJECTS} & {"ClusterRole", "ClusterRoleBinding"}
    for rule in CONTROL_RULES:
        assert "*" not in (rule.group, *rule.resources, *rule.verbs)
        assert "secrets" not in rule.resources
    (binding,) = of_kind("RoleBinding")
    assert [each["name"] for each in binding["subjects"]] == ["dsfn-control"]


def test_functions_are_reached_by_knative_alone_and_reach_no_credentials_of_the_node() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy")}
    assert policies["dsfn-deny"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    functions = policies["dsfn-functions"]
    (ingress,) = functions["ingress"]
    (peer,) = ingress["from"]
    assert "knative-serving" in str(peer["namespaceSelector"])
    blocks = [each["ipBlock"] for rule in functions["egress"] for each in rule.get("to", ())]
    assert {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]} in blocks


def test_a_flag_that_nobody_has_set_is_as_knative_has_it() -> None:
    assert [each.always for each in missing_features({})] == [False] * 4
    off = missing_features({"kubernetes.podspec-volumes-emptydir": "Disabled"})
    assert off[0].always
    assert missing_features(enabling()["data"]) == ()


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PodDisruptionBudget"])
def test_the_control_service_survives_a_node_and_selects_its_own_pods(kind: str) -> None:
    settings = ControlSettings("models", "registry.example/dsfn/control:1", "s3://m", "control")
    found: Any = {each["kind"]: each for each in control_objects(settings)}
    spec = found[kind]["spec"]
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selector = spec["selector"].get("matchLabels", spec["selector"])
    assert selector.items() <= labels.items()
    if kind == "PodDisruptionBudget":
        assert spec["minAvailable"] < found["Deployment"]["spec"]["replicas"]
