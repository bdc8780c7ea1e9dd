"""Code of functions, though it runs as their user, learns no secret of the platform's programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from as_in_pods import seen_of
from live_agent import KEY, LiveAgent
from live_node import LiveNode, start_node
from live_pod import StartPod, TestStore
from s3_server import CREDENTIALS

from dsfn.knative.manifests.secrets import VARIABLES
from dsfn.snapshots.secrets import without_secrets

SPY = """
import os
import dsfn


@dsfn.function
def spy() -> dict[str, str]:
    return dict(os.environ)
"""
# What it needs of its own files, though they belong to root now.
OF_ITSELF = """
import os
from pathlib import Path
from dsfn.snapshots.secrets import keep_secrets

keep_secrets()
for name in ("fd", "task"):
    assert list(Path("/proc/self", name).iterdir())
for name in ("maps", "stat", "status", "limits", "cgroup", "mountinfo"):
    Path("/proc/self", name).read_bytes()
child = os.fork()
if child == 0:
    os._exit(0)
os.close(os.pidfd_open(child))
os.waitpid(child, 0)
"""


def test_code_in_a_pod_finds_no_secret(
    bucket: TestStore, node: LiveNode, start_pod: StartPod
) -> None:
    key = (node.data / "node.key").read_text(encoding="utf-8").strip()
    pod = start_pod("spy", store=bucket, variables={"DSFN_API_KEY": key})
    seen = pod.call().json()
    assert "DSFN_REVISION" in seen["own"]
    assert "DSFN_REVISION" in seen["fork server"]
    assert seen["pod"] == "not for us"
    secrets = (key, *(CREDENTIALS[name] for name in CREDENTIALS if "SECRET" in name))
    assert secrets[1:]
    assert not [each for each in secrets if each in str(seen)]
    assert not [name for name in VARIABLES if name in str(seen)]
    assert seen_of(pod.process.pid) == []


def test_nobody_looks_into_an_agent(tmp_path: Path, directory: TestStore, node: LiveNode) -> None:
    agent = LiveAgent(tmp_path, directory, node.url, {"DSFN_API_KEY": KEY})
    agent.start()
    try:
        assert agent.process is not None
        assert seen_of(agent.process.pid) == []
    finally:
        agent.kill()


def test_a_node_without_a_platforms_store_hands_credentials_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "for-functions")
    app = tmp_path / "app.py"
    app.write_text(SPY, encoding="utf-8")
    node = start_node(tmp_path / "node", libraries=())
    try:
        node.deploy(app)
        assert node.value("spy")["AWS_SECRET_ACCESS_KEY"] == "for-functions"
    finally:
        node.end()


def test_all_that_a_platform_is_told_in_secret_is_one() -> None:
    told = {**dict.fromkeys(VARIABLES, "secret"), "AWS_PROFILE": "secret", "HOME": "/"}
    assert without_secrets({**told, "DSFN_STORE": "s3://b"}) == {
        "HOME": "/",
        "DSFN_STORE": "s3://b",
    }
    elsewhere = without_secrets(told)
    assert {name for name in told if name not in elsewhere} == {
        "DSFN_API_KEY",
        "DSFN_LEDGER",
        "DSFN_LEDGER_KEY",
    }


def test_a_process_that_keeps_its_secrets_still_looks_into_itself() -> None:
    subprocess.run([sys.executable, "-c", OF_ITSELF], check=True, timeout=60)
