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
from dsfn.knative.manifests.features import enabling
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
    "DSFN_API_KEY": "dsfn_local_of-the-test-platform",
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


LEDGER = "DSFN_LEDGER names no host, and a pod has no PostgreSQL beside it: say"
BUCKET = (
    "s3://BUCKET/PREFIX whose bucket has 3 to 63 small letters, digits, dots and hyphens,"
    " and is no IP address."
)


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (("--store", "s3:///p"), {}, f"--store is 's3:///p', and not {BUCKET}"),
        (("--store", "file:///a"), {}, f"--store is 'file:///a', and not {BUCKET}"),
        (("--store", "models/p"), {}, f"--store is 'models/p', and not {BUCKET}"),
        (("--store", "s3://my models/p"), {}, f"--store is 's3://my models/p', and not {BUCKET}"),
        (("--store", "s3://Models"), {}, f"--store is 's3://Models', and not {BUCKET}"),
        (("--store", "s3://a..b/p"), {}, f"--store is 's3://a..b/p', and not {BUCKET}"),
        (
            ("--store", "s3://192.168.1.1/p"),
            {},
            f"--store is 's3://192.168.1.1/p', and not {BUCKET}",
        ),
        (("--store", "s3://ab"), {}, f"--store is 's3://ab', and not {BUCKET}"),
        (
            ("--store", "s3://models:9000/p"),
            {},
            f"--store is 's3://models:9000/p', and not {BUCKET}",
        ),
        (("--store", "s3://models/a//b"), {}, "prefix is not names of folders with / between"),
        (("--store", "s3://models/../b"), {}, "prefix is not names of folders with / between"),
        (("--store", "s3://models/a?b"), {}, "prefix is not names of folders with / between"),
        (
            ("--image", "r.example/my image:1"),
            {},
            "--image is 'r.example/my image:1', and not what",
        ),
        (("--image", "https://r.example/c"), {}, "--image is 'https://r.example/c', and not what"),
        (("--image", "r.example/c:"), {}, "--image is 'r.example/c:', and not what an image is"),
        (("--image", "r.example/c@sha256:12"), {}, "--image is 'r.example/c@sha256:12', and not"),
        (("--function-image", " "), {}, "--function-image is ' ', and not what an image is called"),
        (("--function-image", "F:1"), {}, "--function-image is 'F:1', and not what an image is"),
        ((), {"DSFN_FUNCTION_IMAGE": "F:1"}, "--function-image is 'F:1', and not what an image"),
        ((), {"DSFN_STORE": "s3://"}, f"--store is 's3://', and not {BUCKET}"),
        ((), {"DSFN_LEDGER": "postgresql://u:word@/d"}, LEDGER),
        ((), {"DSFN_LEDGER": "postgresql:///d"}, LEDGER),
        ((), {"DSFN_LEDGER": "postgresql://u:word@%2Frun%2Fpostgresql/d"}, LEDGER),
        ((), {"DSFN_LEDGER": "postgresql://db/d?host=/run/postgresql"}, LEDGER),
        ((), {"AWS_ENDPOINT_URL": "foo"}, "AWS_ENDPOINT_URL is 'foo', and not an http(s) URL."),
        ((), {"AWS_ENDPOINT_URL": "http://"}, "AWS_ENDPOINT_URL is 'http://', and not an http(s)"),
        ((), {"AWS_ENDPOINT_URL_S3": "http://a b"}, "AWS_ENDPOINT_URL_S3 is 'http://a b', and not"),
        ((), {"AWS_SECRET_ACCESS_KEY": "\udcff"}, "AWS_SECRET_ACCESS_KEY is not text in UTF-8."),
        ((), {"DSFN_API_KEY": "word"}, "DSFN_API_KEY must begin with dsfn_local_"),
        ((), {"DSFN_API_KEY": "dsfn_local_"}, "go on with 16 or more letters, digits, - and _"),
        ((), {"DSFN_API_KEY": f"dsfn_local_{'a' * 32} "}, "go on with 16 or more letters, digits"),
        ((), {"DSFN_API_KEY": f"dsfn_local_{'a' * 32}\n"}, "go on with 16 or more letters, digits"),
        ((), {"AWS_SECRET_ACCESS_KEY": "a\n"}, "has characters that no key has, such as blanks."),
        ((), {"AWS_ACCESS_KEY_ID": "a b"}, "AWS_ACCESS_KEY_ID has characters that no key has"),
        ((), {"AWS_SESSION_TOKEN": "a\x7f"}, "AWS_SESSION_TOKEN has characters that no key has"),
        ((), {"AWS_ENDPOINT_URL": "https://s3.example/?x#y"}, "a server's URL has no ? and no #."),
        ((), {"AWS_ENDPOINT_URL": "https://s3.example/?"}, "a server's URL has no ? and no #."),
        ((), {"AWS_ENDPOINT_URL_S3": "https://s3.example#y"}, "a server's URL has no ? and no #."),
        (("--prefetch", "embed\n"), {}, "--prefetch"),
        ((), {"AWS_REGION": "eu west"}, "AWS_REGION is 'eu west', and no region, such as"),
        (
            (),
            {"AWS_SECRET_ACCESS_KEY": ""},
            "AWS_ACCESS_KEY_ID is told without AWS_SECRET_ACCESS_KEY: say both, or neither.",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    dsfn: Dsfn, arguments: tuple[str, ...], variables: dict[str, str], sentence: str
) -> None:
    names = ("DSFN_STORE", "DSFN_CONTROL_IMAGE", "DSFN_FUNCTION_IMAGE")
    told = dict(zip(names, TOLD[1::2], strict=True))
    run = dsfn.given(**SECRETS | told | variables)("platform", "install", "-o", "yaml", *arguments)
    assert (run.code, run.out) == (2, "")
    assert sentence in run.err
    assert run.err.count("\n") == 1 and "word" not in run.err


@pytest.mark.parametrize("command", ["install", "upgrade"])
def test_what_cannot_be_is_refused_before_a_cluster_is_looked_for(dsfn: Dsfn, command: str) -> None:
    run = dsfn("platform", command, "--store", "s3:///p")
    assert (run.code, run.err) == (2, f"--store is 's3:///p', and not {BUCKET}\n")


@pytest.mark.parametrize(
    ("image", "store", "ledger"),
    [
        ("c", "s3://a.b-1", "postgresql://u:p@db.example:5433/d"),
        (
            "localhost:5000/a_b/c__d.e-f:V_1.0-x",
            "s3://models/",
            "postgresql://db/d?sslmode=require",
        ),
        (f"[::1]:5000/c:1@sha256:{64 * '0'}", "s3://models/a b/C_d", "postgresql:///d?host=db"),
        (f"R.example/c@sha256:{64 * 'a'}", "s3://123", "postgres://u@[fd00::1]/d"),
    ],
)
def test_what_may_be_is_printed_as_it_is_said(
    dsfn: Dsfn, image: str, store: str, ledger: str
) -> None:
    told = ("--store", store, "--image", image, "--function-image", image)
    variables = {**SECRETS, "DSFN_LEDGER": ledger, "AWS_ENDPOINT_URL": "https://[fd00::1]:9000/s3"}
    run = dsfn.given(**variables)("platform", "install", "-o", "yaml", *told)
    assert run.code == 0, run.err
    settings = PlatformSettings("dsfn", store.rstrip("/"), image, image, variables)
    assert tuple(yaml.safe_load_all(run.out)) == platform_objects(settings)


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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--json",), "Manifests are printed as YAML or in one JSON document, not both."),
        (
            ("--context", "home"),
            "-o yaml asks no cluster, and so --context has no meaning with it: say it to"
            " `kubectl apply`.",
        ),
    ],
)
def test_what_has_no_meaning_for_manifests_is_refused(
    dsfn: Dsfn, arguments: tuple[str, ...], sentence: str
) -> None:
    run = dsfn.given(**SECRETS)("platform", "install", "-o", "yaml", *TOLD, *arguments)
    assert (run.code, run.out, run.err) == (2, "", f"{sentence}\n")


def test_manifests_switch_knatives_features_on_where_that_is_said(dsfn: Dsfn) -> None:
    say = dsfn.given(**SECRETS)
    without = say("platform", "install", "-o", "yaml", *TOLD)
    run = say("platform", "install", "-o", "yaml", *TOLD, "--enable-features")
    first, *others = yaml.safe_load_all(run.out)
    assert first == enabling() and set(first["data"].values()) == {"enabled"}
    assert others == list(yaml.safe_load_all(without.out))


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
