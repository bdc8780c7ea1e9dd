"""A node fetches a snapshot once, gives what was captured, and all its pods share the pages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from deadlines import eventually
from faulty_proxy import Fault, FaultyProxy, faulty_proxy
from live_agent import LiveAgent
from live_node import LiveNode
from live_pod import LivePod, StartPod, TestStore, revision_of
from s3_server import S3Server

from dsfn.functions.errors import DsfnError
from dsfn.knative.agent.address import NodeSocket
from dsfn.knative.pod.agent import Agent, AgentSnapshots
from dsfn.knative.pod.revision import PulledSnapshots
from dsfn.runtime.config import SnapshotSettings
from dsfn.runtime.tiers.copies import Copies
from dsfn.runtime.tiers.opening import open_store
from dsfn.snapshots.store import FileStore

SLAB = "slab-cpu.safetensors"


@pytest.fixture
def watched(bucket: TestStore, s3: S3Server) -> Iterator[tuple[TestStore, FaultyProxy]]:
    """The bucket, through a proxy that sees who fetches what."""
    port = httpx.URL(s3.url).port
    assert port is not None
    with faulty_proxy(port) as proxy:
        variables = {**bucket.variables, "AWS_ENDPOINT_URL": proxy.url}
        yield TestStore(bucket.url, variables), proxy


@pytest.fixture
def agent(
    tmp_path: Path, node: LiveNode, watched: tuple[TestStore, FaultyProxy]
) -> Iterator[LiveAgent]:
    agent = LiveAgent(tmp_path / "agent", watched[0], node.url)
    agent.start()
    yield agent
    agent.kill()


@pytest.fixture
def start_one(
    start_pod: StartPod, agent: LiveAgent, watched: tuple[TestStore, FaultyProxy]
) -> Callable[[], LivePod]:
    """Starts another pod of the agent's."""
    return lambda: start_pod("weights", store=watched[0], variables=agent.pods)


@pytest.fixture
def slab(node: LiveNode, agent: LiveAgent) -> Path:
    """Where the agent has the slab, once a pod has asked for it."""
    return agent.data / "snapshots" / digest_of(node) / SLAB


@pytest.fixture
def fetched(watched: tuple[TestStore, FaultyProxy]) -> Callable[[], int]:
    """How often the slab was fetched from the store."""
    return lambda: len(watched[1].requests("GET", SLAB))


def digest_of(node: LiveNode) -> str:
    snapshot = revision_of(node, "weights").snapshot
    assert snapshot is not None
    return snapshot.digest


def restored(pod: LivePod) -> bool:
    answer = pod.call()
    assert answer.status_code == 200, answer.text
    assert answer.json()["sum"] == sum(range(100_000))
    return bool(answer.json()["restored"])


def mapped_inodes(slab: Path) -> int:
    """In how many processes the slab of the agent's disk is mapped."""
    inode = f" {slab.stat().st_ino} "
    count = 0
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            count += inode in re.sub(r"\s+", " ", maps.read_text())
        except OSError:
            continue
    return count


def test_two_pods_map_the_same_file_which_is_fetched_once(
    start_one: Callable[[], LivePod], slab: Path, fetched: Callable[[], int]
) -> None:
    pods = [start_one() for _ in range(2)]
    assert all(restored(pod) for pod in pods)
    assert fetched() == 1
    assert mapped_inodes(slab) == 2
    assert all(pod.stop() == 0 for pod in pods)


def test_a_cache_that_was_damaged_is_fetched_again(
    start_one: Callable[[], LivePod], slab: Path, fetched: Callable[[], int]
) -> None:
    assert restored(start_one())
    slab.chmod(0o644)
    data = bytearray(slab.read_bytes())
    data[-1] ^= 1
    slab.write_bytes(data)
    assert restored(start_one())
    assert fetched() == 2


def test_a_cache_that_was_damaged_while_the_agent_was_away_is_fetched_again(
    start_one: Callable[[], LivePod], agent: LiveAgent, slab: Path, fetched: Callable[[], int]
) -> None:
    assert restored(start_one())
    agent.kill()
    slab.unlink()
    agent.start()
    assert restored(start_one())
    assert fetched() == 2


def test_a_snapshot_larger_than_the_cache_is_the_pods_own(
    tmp_path: Path, node: LiveNode, start_pod: StartPod, watched: tuple[TestStore, FaultyProxy]
) -> None:
    store, _ = watched
    agent = LiveAgent(tmp_path / "small", store, node.url, {"DSFN_SNAPSHOT_BYTES": "1000"})
    agent.start()
    try:
        assert restored(start_pod("weights", store=store, variables=agent.pods))
        assert not (agent.data / "snapshots" / digest_of(node)).exists()
    finally:
        agent.kill()


def test_what_cannot_be_linked_leaves_no_file_open(
    tmp_path: Path, node: LiveNode, agent: LiveAgent, watched: tuple[TestStore, FaultyProxy]
) -> None:
    watched[0].publish(node, "weights")
    files = FileStore(tmp_path / "pod")
    here = Agent(NodeSocket(agent.socket), "pod", "")
    store = open_store(SnapshotSettings(f"file://{tmp_path}"))
    assert store is not None
    pulled = PulledSnapshots(Copies(files, store, 1.0))
    (tmp_path / "pod").rmdir()

    async def ask() -> None:
        for _ in range(3):
            with pytest.raises((DsfnError, OSError)):
                await AgentSnapshots(here, files, pulled, 60.0).ensure(digest_of(node))

    before = open_files()
    try:
        asyncio.run(ask())
        assert open_files() == before
    finally:
        here.close()


def test_a_prefetched_function_starts_without_the_store(
    tmp_path: Path, node: LiveNode, start_pod: StartPod, watched: tuple[TestStore, FaultyProxy]
) -> None:
    store, proxy = watched
    store.publish(node, "weights")
    agent = LiveAgent(tmp_path / "ahead", store, node.url, {"DSFN_PREFETCH": "weights,shout"})
    agent.start()
    try:
        here = agent.data / "snapshots" / digest_of(node)
        eventually(here.is_dir, "the snapshot to be fetched")
        proxy.inject(Fault("refused"), "GET", SLAB, times=1000)
        assert restored(start_pod("weights", store=store, variables=agent.pods))
    finally:
        agent.kill()


def open_files() -> list[str]:
    """The files that this process has open, and not its connections, which others here use."""
    links = Path("/proc/self/fd").iterdir()
    return sorted(str(link.readlink()) for link in links if link.is_file())
