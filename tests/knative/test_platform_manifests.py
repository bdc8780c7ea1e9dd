"""What `dsfn platform install` puts into a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from knative_schemas import check_against_schema

from dsfn.knative.control.settings import read_settings
from dsfn.knative.manifests.accounts import CONTROL_RULES
from dsfn.knative.manifests.agent import agent_url, agents_namespace_of
from dsfn.knative.manifests.control import control_objects
from dsfn.knative.manifests.features import enabling, missing_features
from dsfn.knative.manifests.platform import AGENT_KINDS, KINDS, platform_objects
from dsfn.knative.manifests.secrets import read_secret, together
from dsfn.knative.manifests.settings import PlatformSettings

TOLD = {
    "DSFN_API_KEY": "dsfn_local_of-the-test-platform",
    "DSFN_LEDGER": "postgresql://a:b@c/d",
    "DSFN_LEDGER_KEY": "PEM",
    "AWS_SECRET_ACCESS_KEY": "s",
}
SETTINGS = PlatformSettings(
    "models", "s3://models/p", "registry.example/control:1", "registry.example/function:1", TOLD
)
OBJECTS: Any = platform_objects(SETTINGS)


def of_kind(kind: str) -> list[Any]:
    return [each for each in OBJECTS if each["kind"] == kind]


def test_everything_is_in_the_namespaces_which_come_first_and_is_known_as_ours() -> None:
    first, second, *others = OBJECTS
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", "models")
    assert second == agents_namespace_of("models")
    places = {each["metadata"].get("namespace") for each in others}
    assert places == {"models", "models-agents", None}
    assert {e["kind"] for e in others if "namespace" not in e["metadata"]} == {"PersistentVolume"}
    for each in OBJECTS:
        assert each["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "dsfn"


@pytest.mark.parametrize(
    ("namespace", "known"), [("models", KINDS), ("models-agents", AGENT_KINDS)]
)
def test_each_kind_is_one_that_uninstall_looks_for(
    namespace: str, known: tuple[tuple[str, str], ...]
) -> None:
    within = (each for each in OBJECTS if each["metadata"].get("namespace") == namespace)
    assert {(each["apiVersion"], each["kind"]) for each in within} == set(known)


def test_functions_and_agents_get_no_secret_of_the_books() -> None:
    secrets = {each["metadata"]["name"]: read_secret(each) for each in of_kind("Secret")}
    assert secrets.pop("dsfn-control") == TOLD
    shared = {"DSFN_API_KEY": "dsfn_local_of-the-test-platform", "AWS_SECRET_ACCESS_KEY": "s"}
    assert secrets == {"dsfn-function": shared, "dsfn-agent": shared}


def test_pods_are_started_anew_when_what_they_are_told_in_secret_changes() -> None:
    others: Any = platform_objects(replace(SETTINGS, secrets={**TOLD, "AWS_REGION": "eu"}))
    for kind in ("Deployment", "DaemonSet"):
        (before,), (after,) = of_kind(kind), [e for e in others if e["kind"] == kind]
        assert before["spec"]["template"] != after["spec"]["template"]


def test_the_replicas_of_the_control_service_reach_each_other() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy")}
    assert "'app.kubernetes.io/component': 'control'" in str(policies["dsfn-control"]["ingress"])


def test_the_control_service_serves_until_the_nodes_have_heard_that_a_pod_goes() -> None:
    (deployment,) = of_kind("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    program, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep" and int(seconds) >= 5
    # The kubelet's patience counts from the beginning of that.
    assert pod["terminationGracePeriodSeconds"] - int(seconds) >= 75


def test_the_control_service_is_told_all_that_it_needs() -> None:
    (deployment,) = of_kind("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value", "10.0.0.1") for each in container["env"]}
    settings = read_settings({**told, **TOLD, "DSFN_NAMESPACE": "models"})
    services = settings.cluster.services
    assert (services.image, services.secret) == (SETTINGS.function_image, "dsfn-function")
    assert services.control_url == "http://dsfn-control.models.svc.cluster.local"
    assert services.blobs == "s3://models/p/blobs/control"
    assert services.agent == agent_url("models")
    assert settings.url == "http://10.0.0.1:8700"
    assert settings.node.auth.required


def test_the_namespace_takes_restricted_pods_only() -> None:
    namespace, _ = of_kind("Namespace")
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
    # Of the platform's pods, and not of others that may be in the namespace.
    ours = {"matchLabels": {"app.kubernetes.io/managed-by": "dsfn"}}
    assert policies["dsfn-deny"] == {"podSelector": ours, "policyTypes": ["Ingress"]}
    functions = policies["dsfn-functions"]
    (ingress,) = functions["ingress"]
    (peer,) = ingress["from"]
    assert "knative-serving" in str(peer["namespaceSelector"])
    blocks = [each["ipBlock"] for rule in functions["egress"] for each in rule.get("to", ())]
    assert {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]} in blocks


def test_a_sessions_token_goes_with_its_credentials_and_what_is_said_to_be_nothing() -> None:
    before = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}
    others = {"AWS_ACCESS_KEY_ID": "d", "AWS_SECRET_ACCESS_KEY": "e"}
    assert together(before, others) == others
    same = {name: before[name] for name in others}
    assert together(before, same) == before
    assert "AWS_SESSION_TOKEN" not in together(before, {"AWS_SECRET_ACCESS_KEY": "e"})
    assert together(before, others | {"AWS_SESSION_TOKEN": "f"})["AWS_SESSION_TOKEN"] == "f"
    assert together(before, {"AWS_SESSION_TOKEN": ""}).keys() == others.keys()
    assert together(before, {"AWS_REGION": "eu-central-1"}).items() > before.items()


def test_a_flag_that_nobody_has_set_is_as_knative_has_it() -> None:
    flag = "kubernetes.podspec-volumes-emptydir"
    assert flag not in [each.flag for each in missing_features({})]
    assert flag in [each.flag for each in missing_features({flag: "Disabled"})]
    assert missing_features(enabling()["data"]) == ()


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PodDisruptionBudget"])
def test_the_control_service_survives_a_node_and_selects_its_own_pods(kind: str) -> None:
    found: Any = {each["kind"]: each for each in control_objects(SETTINGS)}
    spec = found[kind]["spec"]
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selector = spec["selector"].get("matchLabels", spec["selector"])
    assert selector.items() <= labels.items()
    if kind == "PodDisruptionBudget":
        assert spec["minAvailable"] < found["Deployment"]["spec"]["replicas"]
