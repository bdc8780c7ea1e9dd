"""The agent has a part of the node's disk and no more; functions reach its socket to ask."""

from __future__ import annotations

from typing import Any

from knative_schemas import check_against_schema
from revisions import make_revision

from dsfn.knative.manifests.agent import (
    AgentSettings,
    agent_objects,
    agent_url,
    agents_namespace_of,
)
from dsfn.knative.manifests.function import ServiceSettings, function_service
from dsfn.knative.pod.document import Publication

FOUND: Any = {
    each["kind"]: each
    for each in agent_objects(
        AgentSettings("models", "registry.example/control:1", "s3://m", "http://control", "agent")
    )
}
POD = FOUND["DaemonSet"]["spec"]["template"]["spec"]
POD_LABELS = FOUND["DaemonSet"]["spec"]["template"]["metadata"]["labels"]


def function_of(*, agent: bool, snapshot: bool) -> Any:
    settings = ServiceSettings(
        "models",
        "registry.example/runtime:1",
        "s3://m",
        "http://control",
        agent=agent_url("models") if agent else "",
    )
    revision = make_revision(1 if snapshot else 2)
    return function_service(revision, Publication("0" * 64, ()), settings)


def test_what_the_restricted_namespace_refuses_is_in_another() -> None:
    assert agents_namespace_of("models")["metadata"]["name"] == "models-agents"
    for kind in ("DaemonSet", "NetworkPolicy", "Service"):
        assert FOUND[kind]["metadata"]["namespace"] == "models-agents"
    assert FOUND["PersistentVolumeClaim"]["metadata"]["namespace"] == "models"


def test_the_agent_has_no_rights_beyond_its_directories() -> None:
    (container,) = POD["containers"]
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert not POD["automountServiceAccountToken"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & POD.keys()
    paths = [each["hostPath"]["path"] for each in POD["volumes"] if "hostPath" in each]
    assert paths == ["/var/lib/dsfn/agent/models", "/var/lib/dsfn/run/models"]


def test_what_pods_get_was_opened_where_nobody_can_write() -> None:
    (container,) = POD["containers"]
    told = {each["name"]: each["value"] for each in container["env"]}
    (shown,) = [each for each in container["volumeMounts"] if each.get("readOnly")]
    assert told["DSFN_SHOWN"] == f"{shown['mountPath']}/snapshots"


def test_functions_of_the_platform_connect_to_agents_and_nobody_else() -> None:
    spec = FOUND["NetworkPolicy"]["spec"]
    assert spec["podSelector"] == {} and "Ingress" in spec["policyTypes"]
    (rule,) = spec["ingress"]
    (source,) = rule["from"]
    (named,) = source["namespaceSelector"]["matchExpressions"]
    assert named["values"] == ["models"]
    function = function_of(agent=True, snapshot=False)["spec"]["template"]["metadata"]["labels"]
    assert source["podSelector"]["matchLabels"].items() <= function.items()
    (port,) = rule["ports"]
    assert port["port"] == POD["containers"][0]["ports"][0]["containerPort"]


def test_a_function_without_a_snapshot_asks_the_agent_of_its_node_at_its_port() -> None:
    (container,) = function_of(agent=True, snapshot=False)["spec"]["template"]["spec"]["containers"]
    (address,) = [each["value"] for each in container["env"] if each["name"] == "DSFN_AGENT"]
    service = FOUND["Service"]
    (port,) = service["spec"]["ports"]
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    assert address == f"tcp://{name}.{namespace}.svc.cluster.local.:{port['port']}"
    assert service["spec"]["internalTrafficPolicy"] == "Local"
    assert service["spec"]["selector"].items() <= POD_LABELS.items()
    (agent,) = POD["containers"]
    told = {each["name"]: each["value"] for each in agent["env"]}
    assert int(told["PORT"]) == port["targetPort"]


def test_the_volume_is_bound_to_the_claim_that_a_function_mounts_to_read_alone() -> None:
    service = function_of(agent=True, snapshot=True)
    check_against_schema(service)
    pod = service["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (volume,) = [each for each in pod["volumes"] if "persistentVolumeClaim" in each]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == volume["name"]]
    (agent,) = POD["containers"]
    told = [
        {each["name"]: each.get("value") for each in each_container["env"]}
        for each_container in (container, agent)
    ]
    assert told[0]["DSFN_AGENT"] == told[1]["DSFN_AGENT"] == f"{mount['mountPath']}/agent.sock"
    assert mount["readOnly"] and volume["persistentVolumeClaim"]["readOnly"]
    claim, bound = FOUND["PersistentVolumeClaim"], FOUND["PersistentVolume"]["spec"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert bound["claimRef"] == {"namespace": "models", "name": claim["metadata"]["name"]}
    assert bound["hostPath"]["path"] == "/var/lib/dsfn/run/models"


def test_without_an_agent_a_function_mounts_nothing_of_it() -> None:
    for snapshot in (True, False):
        assert "agent" not in str(function_of(agent=False, snapshot=snapshot))
