"""A node to deploy to and to keep the books, stores to publish to, and pods."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "cli"))

from live_node import LiveNode, start_node
from live_pod import (
    LivePod,
    StartPod,
    TestStore,
    directory_store,
    launch_pod,
    pod_variables,
    s3_store,
)
from s3_server import CREDENTIALS, S3Server

APPS = Path(__file__).parent / "apps"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """A node with the functions, which is the pods' control service, too."""
    node = start_node(tmp_path_factory.mktemp("control"))
    try:
        node.deploy(APPS / "served.py")
        yield node
        assert node.stop() == 0, node.log
    finally:
        node.end()


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> TestStore:
    """A store that is a directory."""
    return directory_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> TestStore:
    """A store in a bucket of a real S3 server."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return s3_store(s3)


@pytest.fixture
def start_pod(node: LiveNode, directory: TestStore, tmp_path: Path) -> Iterator[StartPod]:
    """Pods of a test's own; those that still run are ended with it."""
    started: list[LivePod] = []

    def start_one(
        function: str,
        *,
        store: TestStore | None = None,
        control: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> LivePod:
        place, chosen = tmp_path / f"pod-{len(started)}", store or directory
        published = chosen.publish(node, function)
        told = pod_variables(chosen, published.digest, control or node.url)
        told["DSFN_LIBRARIES"] = ",".join(published.libraries)
        pod = launch_pod(place, {**told, **(variables or {})})
        started.append(pod)
        return pod

    yield start_one
    for pod in started:
        pod.end()
