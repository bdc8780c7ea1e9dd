"""What the tests of the library share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsfn.functions.function import Function
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.restore import restore

Ready = Callable[[Function[..., Any]], Any]
SAMPLES = Path(__file__).parents[3] / "functions" / "library" / "samples"


@pytest.fixture(scope="session")
def ready() -> Ready:
    """Gives the instance behind a function after `setup()`, made once for all tests."""
    made: dict[str, Any] = {}

    def instance(function: Function[..., Any]) -> Any:
        name = function.options.name
        if name not in made:
            made[name] = function.target()
            made[name].setup()
        return made[name]

    return instance


@pytest.fixture
def restored(ready: Ready, tmp_path: Path) -> Ready:
    """Gives an instance restored from a snapshot of a function's instance."""

    def instance(function: Function[..., Any]) -> Any:
        target: Any = function.target
        classes = Classes({target.__name__: target})
        directory = tmp_path / "snapshot"
        directory.mkdir()
        capture(ready(function), classes, directory)
        empty = target.__new__(target)
        restore(directory, classes, {"cpu": CpuMemory()}, empty)
        return empty

    return instance


@pytest.fixture(scope="session")
def sample() -> Callable[[str], bytes]:
    """Reads a file that comes with the library."""
    return lambda name: (SAMPLES / name).read_bytes()
