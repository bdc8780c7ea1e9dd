"""The checkout that the tests run in."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("billing", "functions", "knative", "runtime", "snapshots")


def copy_product(place: Path) -> None:
    """Copies what a wheel is built from, for a test to build from or to spoil."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)
    for name in ("dsfn", *ROOMS):
        caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, place / name, symlinks=True, ignore=caches)
