"""What `dsfn doctor` says of what is not installed."""

from __future__ import annotations

import pytest

from dsfn.runtime.cli import checks


@pytest.mark.parametrize("check", [checks.torch, checks.images, checks.audio])
def test_a_package_that_dsfn_runs_without_is_no_failure(
    check: checks.Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_version", lambda package: "")
    finding = check()
    assert finding.state == "warn"
    assert "pip install" in finding.remedy
