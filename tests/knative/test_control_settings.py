"""What the control service must be told, and what it makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from live_node import environment
from ports import free_port
from s3_server import CREDENTIALS, S3Server

from dsfn.functions.errors import UsageError
from dsfn.knative.control.settings import read_settings

TOLD = {
    "PORT": "8701",
    "POD_NAME": "control-a",
    "POD_IP": "10.0.0.1",
    "DSFN_NAMESPACE": "models",
    "DSFN_STORE": "s3://models/p",
    "DSFN_FUNCTION_IMAGE": "registry.example/function:1",
    "DSFN_CONTROL": "http://dsfn-control",
    "DSFN_LEDGER": "postgresql://dsfn@db/dsfn",
    "DSFN_LEDGER_KEY": "PEM",
    "DSFN_API_KEY": "dsfn_local_of-the-test-platform",
}


@pytest.mark.parametrize("name", [name for name in TOLD if name != "PORT"])
def test_what_is_missing_is_named(name: str) -> None:
    told = {key: value for key, value in TOLD.items() if key != name}
    with pytest.raises(UsageError, match=f"{name} is not set"):
        read_settings(told)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "http", "PORT is 'http', and not a port"),
        ("DSFN_STORE", "file:///a", "and not s3://BUCKET/PREFIX"),
        ("DSFN_STORE", "s3:///a", "DSFN_STORE is 's3:///a', and not s3://BUCKET/PREFIX"),
        ("AWS_ENDPOINT_URL", "foo", "AWS_ENDPOINT_URL is 'foo', and not an http"),
        ("DSFN_FUNCTION_IMAGE", "a b", "DSFN_FUNCTION_IMAGE is 'a b', and not what an image is"),
        ("DSFN_LEDGER", "postgresql:///d", "DSFN_LEDGER names no host"),
        ("DSFN_CONTROL", "dsfn-control", "and not an http"),
        ("DSFN_API_KEY", "secret", "must begin with dsfn_local_"),
    ],
)
def test_what_makes_no_sense_is_told(name: str, value: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        read_settings({**TOLD, name: value})


def test_a_replica_that_is_told_too_little_ends_with_one_sentence(tmp_path: Path) -> None:
    told = dict.fromkeys(TOLD, "")
    assert ended(tmp_path, told) == "DSFN_STORE is not set; docs/knative.md says what is needed.\n"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"DSFN_STORE": "s3://no-such-bucket/p"}, "it has no bucket 'no-such-bucket'"),
        (
            {"AWS_SECRET_ACCESS_KEY": "another"},
            "it refuses the credentials (403 SignatureDoesNotMatch)",
        ),
        # In this server's words.
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "it answers 404 XAdminUserNotFound"),
    ],
)
def test_a_replica_says_at_its_start_that_the_store_does_not_take_it(
    s3: S3Server, tmp_path: Path, wrong: dict[str, str], reason: str
) -> None:
    bucket = s3.make_bucket()
    told = {**CREDENTIALS, "AWS_ENDPOINT_URL": s3.url, "DSFN_STORE": f"s3://{bucket}/p", **wrong}
    assert ended(tmp_path, told) == f"The store {told['DSFN_STORE']}/ cannot be used: {reason}.\n"


def test_a_replica_does_without_a_store_that_is_away(tmp_path: Path) -> None:
    told = {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    # It goes on to what lacks next.
    assert "There is no kubeconfig" in ended(tmp_path, told)


def ended(place: Path, told: dict[str, str]) -> str:
    """What a replica says that ends at its start."""
    variables = {
        **TOLD,
        "PYTHONPATH": ":".join(sys.path),
        "KUBECONFIG": str(place / "none"),
        "DSFN_DATA": str(place),
        **told,
    }
    program = subprocess.run(
        [sys.executable, "-m", "dsfn.knative.control"],
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert program.returncode == 1
    return program.stderr


def test_rates_and_limits_are_those_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'tenant = "team"\n[limits]\nqueue_timeout_s = 7\n[auth]\nrequired = false\n'
        '[billing]\ncurrency = "EUR"\nledger = "postgresql://elsewhere/a"\n',
        encoding="utf-8",
    )
    settings = read_settings({**TOLD, "DSFN_CONFIG": str(file)})
    assert settings.node.limits.queue_timeout_s == 7
    assert settings.node.billing == {"currency": "EUR"}
    assert settings.cluster.services.tenant == "team"
    # What all replicas, pods and the command line rely on is not the file's to say.
    assert settings.node.auth.required
    assert settings.node.ledger == TOLD["DSFN_LEDGER"]


def test_an_address_of_ipv6_is_one_in_a_url() -> None:
    settings = read_settings({**TOLD, "POD_IP": "fd00::1"})
    assert (settings.url, settings.node.host) == ("http://[fd00::1]:8701", "::")
