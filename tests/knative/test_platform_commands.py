"""`dsfn platform` where there is no cluster, or none that can be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cli_runs import Dsfn
from ports import free_port

from dsfn.billing.signing import new_pem
from dsfn.knative.cli.manifest_yaml import manifest_yaml
from dsfn.knative.manifests.platform import platform_objects
from dsfn.knative.manifests.secrets import VARIABLES
from dsfn.knative.manifests.settings import PlatformSettings

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: home
contexts: [{{name: home, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{port}"}}}}]
users: [{{name: u, user: {{token: t}}}}]
"""


SECRETS = {
    "DSFN_API_KEY": "dsfn_local_k",
    "DSFN_LEDGER": "postgresql://dsfn:word@db/dsfn",
    "DSFN_LEDGER_KEY": new_pem().decode(),
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "key",
}
TOLD = ("--store", "s3://models/p", "--image", "r.example/c:1", "--function-image", "r.example/f:1")


@pytest.fixture
def dsfn(tmp_path: Path) -> Dsfn:
    # What whoever runs the tests has told another platform.
    names = ("DSFN_STORE", "DSFN_CONTROL_IMAGE", "DSFN_FUNCTION_IMAGE", *VARIABLES)
    own = {"DSFN_DATA": str(tmp_path / "data"), "KUBECONFIG": "none"}
    return Dsfn(tmp_path, {**dict.fromkeys(names, ""), **own})


@pytest.fixture
def client(require: Callable[[str, str], None]) -> None:
    require("kubernetes", "pip install 'dsfn[knative]'")


def test_manifests_are_printed_without_a_cluster(dsfn: Dsfn) -> None:
    run = dsfn.given(**SECRETS)("platform", "install", "-o", "yaml", "--namespace", "models", *TOLD)
    assert run.code == 0, run.err
    settings = PlatformSettings(
        "models", "s3://models/p", "r.example/c:1", "r.example/f:1", SECRETS
    )
    assert tuple(yaml.safe_load_all(run.out)) == platform_objects(settings)


@pytest.mark.parametrize("missing", ["DSFN_LEDGER_KEY", "DSFN_API_KEY"])
def test_manifests_have_no_keys_that_nobody_has_told(dsfn: Dsfn, missing: str) -> None:
    run = dsfn.given(**SECRETS | {missing: ""})("platform", "install", "-o", "yaml", *TOLD)
    assert (run.code, run.out) == (2, "")
    assert run.err == (
        "What is applied again must bring the same keys, and so none is made up without a cluster:"
        " say in DSFN_LEDGER_KEY the one that signs the ledger (`openssl genpkey -algorithm"
        " ed25519` makes one), and in DSFN_API_KEY the one with which pods and the control service"
        " ask each other, a random text that begins with dsfn_local_.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (TOLD[2:], SECRETS, "keeps revisions, snapshots and blobs in a bucket"),
        (("--store", "file:///a", *TOLD[2:]), SECRETS, "in a bucket: say which with --store"),
        (TOLD, {}, "keeps its books in PostgreSQL: say in DSFN_LEDGER where"),
        (TOLD[:2], SECRETS, "Say what the platform runs with --image"),
        (TOLD[:4], SECRETS, "Say what the platform runs with --function-image"),
        (TOLD, {**SECRETS, "DSFN_API_KEY": "xx"}, "DSFN_API_KEY must begin with dsfn_local_"),
        (TOLD, {**SECRETS, "DSFN_LEDGER_KEY": "xx"}, "DSFN_LEDGER_KEY is not a private key"),
        (TOLD, {**SECRETS, "DSFN_LEDGER": "mysql://db/a"}, "DSFN_LEDGER is not postgresql://"),
        (TOLD, {**SECRETS, "DSFN_LEDGER": "postgresql://db"}, "DSFN_LEDGER is not postgresql://"),
    ],
)
def test_what_must_be_told_is_asked_for(
    dsfn: Dsfn, arguments: tuple[str, ...], variables: dict[str, str], sentence: str
) -> None:
    run = dsfn.given(**variables)("platform", "install", "-o", "yaml", *arguments)
    assert (run.code, run.out) == (2, "")
    assert sentence in run.err and run.err.count("\n") == 1


def prefetched(dsfn: Dsfn, *arguments: str) -> str:
    run = dsfn.given(**SECRETS)("platform", "install", "-o", "yaml", *TOLD, *arguments)
    assert run.code == 0, run.err
    (agent,) = (each for each in yaml.safe_load_all(run.out) if each["kind"] == "DaemonSet")
    (container,) = agent["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each["value"] for each in container["env"]}
    return str(told["DSFN_PREFETCH"])


def test_functions_to_prefetch_are_told_the_agents(dsfn: Dsfn) -> None:
    assert prefetched(dsfn) == prefetched(dsfn, "--prefetch", "") == ""
    names = ("embed", "classify", "embed")
    assert (
        prefetched(dsfn, *(w for each in names for w in ("--prefetch", each))) == "embed,classify"
    )


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["No Good"], "--prefetch takes names of functions, and 'No Good' is none."),
        ([f"f{number}" for number in range(101)], "--prefetch takes at most 100 functions."),
    ],
)
def test_what_cannot_be_prefetched_is_a_usage_mistake(
    dsfn: Dsfn, names: list[str], sentence: str
) -> None:
    arguments = [word for each in names for word in ("--prefetch", each)]
    run = dsfn.given(**SECRETS)("platform", "install", "-o", "yaml", *TOLD, *arguments)
    assert (run.code, run.err) == (2, f"{sentence}\n")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            57 * "n",
            f"--namespace takes at most 56 characters, and {57 * 'n'} has 57: that of the agents,"
            f" {57 * 'n'}-agents, may have no more than 63.",
        ),
        (
            "Models",
            "--namespace takes small letters, digits, and dashes within, and 'Models' is none.",
        ),
    ],
)
@pytest.mark.parametrize(
    "command", [("install", "-o", "yaml", *TOLD), ("upgrade",), ("status",), ("uninstall",)]
)
@pytest.mark.usefixtures("client")
def test_a_namespace_that_there_cannot_be_is_a_usage_mistake(
    dsfn: Dsfn, command: tuple[str, ...], name: str, sentence: str
) -> None:
    run = dsfn.given(**SECRETS)("platform", *command, "--namespace", name)
    assert (run.code, run.out, run.err) == (2, "", f"{sentence}\n")


def test_the_longest_namespace_has_no_object_whose_name_is_too_long(dsfn: Dsfn) -> None:
    longest = 56 * "n"
    run = dsfn.given(**SECRETS)("platform", "install", "-o", "yaml", *TOLD, "--namespace", longest)
    assert run.code == 0, run.err
    namespaces = [
        each["metadata"]["name"]
        for each in yaml.safe_load_all(run.out)
        if each["kind"] == "Namespace"
    ]
    assert namespaces == [longest, f"{longest}-agents"]
    assert max(map(len, namespaces)) == 63


@pytest.mark.parametrize("name", ["y", "n", "1e3", "12e4", "0x1f", "off", "null", "1_000", "~"])
def test_a_name_is_no_number_and_no_boolean_for_kubectl(name: str) -> None:
    text = manifest_yaml([{"kind": name, "replicas": 2, "on": True}])
    quoted = {f'kind: "{name}"', f"kind: '{name}'"}
    kind, replicas, on = text.splitlines()
    assert kind in quoted and replicas == "replicas: 2" and on in ('"on": true', "'on': true")


def test_manifests_are_yaml_or_json(dsfn: Dsfn) -> None:
    assert dsfn("platform", "install", "-o", "yaml", "--json").code == 2


@pytest.mark.parametrize(
    ("kubeconfig", "arguments", "sentence"),
    [
        (None, (), "There is no kubeconfig at "),
        ("\0\udcff", (), "is no kubeconfig: it is not text in UTF-8"),
        ("root:x:0", (), "is no kubeconfig: it lacks what one consists of"),
        ("a: [", (), "is no kubeconfig: while parsing a flow node"),
        ("contexts: []\nclusters: []\nusers: []\ncurrent-context: x", (), "is no kubeconfig: "),
        (KUBECONFIG, ("--context", "work"), "has no context 'work'; it has home."),
    ],
)
@pytest.mark.parametrize("command", ["install", "upgrade", "status", "uninstall"])
@pytest.mark.usefixtures("client")
def test_a_kubeconfig_that_is_wrong_is_a_usage_mistake(
    dsfn: Dsfn, command: str, kubeconfig: str | None, arguments: tuple[str, ...], sentence: str
) -> None:
    place = dsfn.directory / "kubeconfig"
    if kubeconfig is not None:
        text = kubeconfig.format(port=1) if "{port}" in kubeconfig else kubeconfig
        place.write_text(text, errors="surrogateescape")
    run = dsfn.given(KUBECONFIG=str(place))("platform", command, *arguments)
    assert (run.code, run.out) == (2, "")
    assert sentence in run.err and run.err.count("\n") == 1


@pytest.mark.usefixtures("client")
def test_a_cluster_that_does_not_answer_is_one_sentence(dsfn: Dsfn) -> None:
    port = free_port()
    place = dsfn.directory / "kubeconfig"
    place.write_text(KUBECONFIG.format(port=port))
    run = dsfn.given(KUBECONFIG=str(place))("platform", "status")
    address = f"https://127.0.0.1:{port}"
    assert (run.code, run.out) == (1, "")
    assert run.err == (
        f"The cluster of context 'home' does not answer at {address}: Connection refused.\n"
    )
