"""One node for most tests, and as many of its own as a test needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from live_node import (
    SHARED_MEMORY,
    LiveNode,
    StartNode,
    Table,
    left_in_shared_memory,
    start_node,
)

from dsfn.runtime.libraries import LIBRARIES

LIMITS = {
    "max_body_bytes": 4 << 20,
    "max_result_bytes": 4 << 20,
    "discover_timeout_s": 5,
    "setup_timeout_s": 5,
    "cancel_grace_s": 0.5,
    "shutdown_timeout_s": 20,
}


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """A node that the whole directory shares; what it leaves behind is looked at in the end."""
    before = set(SHARED_MEMORY.iterdir())
    node = start_node(tmp_path_factory.mktemp("shared"), **LIMITS)
    try:
        yield node
        assert node.stop() == 0, node.log
        assert not node.processes()
        assert not list((node.place / "tmp").iterdir())
        assert not left_in_shared_memory(before)
        assert "Traceback" not in node.log, node.log
    finally:
        node.end()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartNode]:
    """Nodes of a test's own; those that still run are ended with it."""
    started: list[LiveNode] = []

    def start_one(
        place: Path | None = None,
        *,
        gpu: Table | None = None,
        snapshots: Table | None = None,
        blobs: Table | None = None,
        auth: Table | None = None,
        billing: Table | None = None,
        libraries: Sequence[str] = LIBRARIES,
        **limits: float,
    ) -> LiveNode:
        node = start_node(
            place or tmp_path,
            gpu=gpu,
            snapshots=snapshots,
            blobs=blobs,
            auth=auth,
            billing=billing,
            libraries=libraries,
            **{**LIMITS, **limits},
        )
        started.append(node)
        return node

    yield start_one
    for node in started:
        node.end()
        assert not node.processes()
