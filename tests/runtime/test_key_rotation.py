"""A ledger gets another key, and what the one before has signed counts as before."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dsfn.billing.signing import SigningKey
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import UsageError
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.config import Settings, load_settings
from dsfn.runtime.ledgers import open_ledger
from dsfn.runtime.notary.checking import check_ledger
from dsfn.runtime.notary.rotation import rotate_key

CLOCK = SystemClock()


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = request.getfixturevalue("database") if request.param == "postgres" else ""
    return replace(load_settings(data_dir=tmp_path), ledger=url)


@pytest.fixture
def path(settings: Settings) -> Path:
    """The key of a ledger with a row."""
    path = settings.data_dir / "ledger-key.pem"
    sign(settings, "i-1")
    return path


def sign(settings: Settings, id: str) -> None:
    """Posts a row and signs what there is."""
    key = SigningKey.open(settings.data_dir / "ledger-key.pem")
    with closing(open_ledger(settings)) as ledger:
        ledger.post([Usage(id, "t", "", "f", "", "cpu", CLOCK.now_us(), 1, 2, 0, "succeeded")])
        ledger.checkpoint(key, CLOCK.now_us())


def test_a_ledger_is_right_with_every_key_that_it_gets(settings: Settings, path: Path) -> None:
    keys = {SigningKey.open(path).public_key}
    for number in range(2, 4):
        key = rotate_key(settings, CLOCK)
        assert SigningKey.open(path).public_key == key.public_key
        assert path.stat().st_mode & 0o777 == 0o600
        sign(settings, f"i-{number}")
        found = check_ledger(settings)
        assert (found.problems, found.rows) == ((), number)
        keys.add(key.public_key)
    assert (len(keys), found.checkpoints) == (3, 7)
    assert [file.name for file in settings.data_dir.glob("*.pem")] == [path.name]


def test_a_rotation_that_was_stopped_goes_on(
    settings: Settings, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Path, target: Path) -> Path:
        if target == path:
            raise KeyboardInterrupt
        self.rename(target)
        return target

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", stop)
        rotate_key(settings, CLOCK)
    with pytest.raises(UsageError, match=r"rotate-key` was stopped, run it again"):
        sign(settings, "i-2")
    rotate_key(settings, CLOCK)
    sign(settings, "i-3")
    found = check_ledger(settings)
    assert (found.problems, found.checkpoints) == ((), 4)


def test_there_is_no_rotation_beside_a_node_or_without_a_key(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    with pytest.raises(UsageError, match=r"There is no ledger-key\.pem"):
        rotate_key(settings, CLOCK)
    SigningKey.open(tmp_path / "ledger-key.pem")
    with (
        closing(SqliteLedger(tmp_path / "ledger.db")),
        pytest.raises(UsageError, match="Another process writes"),
    ):
        rotate_key(settings, CLOCK)
