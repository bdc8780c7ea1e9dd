"""The command line in an empty directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import Dsfn


@pytest.fixture
def dsfn(tmp_path: Path) -> Dsfn:
    """`dsfn` without a node: nothing listens at its URL."""
    return Dsfn(tmp_path, {"DSFN_DATA": str(tmp_path / "data"), "DSFN_URL": "http://127.0.0.1:9"})
