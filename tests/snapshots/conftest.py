"""What the tests of snapshots share."""

from __future__ import annotations

import sys
import threading
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


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that other tests have left behind do not count as this process's."""
    frames = sys._current_frames
    strangers = set(frames()) - {threading.get_ident()}

    def without_strangers() -> Mapping[int, object]:
        return {thread: at for thread, at in frames().items() if thread not in strangers}

    monkeypatch.setattr(sys, "_current_frames", without_strangers)
