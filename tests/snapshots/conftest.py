"""What the tests of snapshots share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

# Worker processes import the user's module by name; here that module is `snapshot_app`.
sys.path.insert(0, str(Path(__file__).parent))

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.restore import restore

RoundTrip = Callable[[Mapping[str, object]], dict[str, object]]


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    """An empty directory to capture into."""
    path = tmp_path / "staging"
    path.mkdir()
    return path


@pytest.fixture
def round_trip(staging: Path) -> RoundTrip:
    """Captures a state and gives the restored one."""

    def run(state: Mapping[str, object]) -> dict[str, object]:
        capture(state, Classes(), staging)
        return restore(staging, Classes(), {"cpu": CpuMemory()}).state

    return run
