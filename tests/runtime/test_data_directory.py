from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dsfn.functions.errors import UsageError
from dsfn.runtime.data_directory import DataDirectory


def test_a_directory_belongs_to_one_node_at_a_time(tmp_path: Path) -> None:
    first = DataDirectory.lock(tmp_path)
    with pytest.raises(UsageError, match="Another node already uses"):
        DataDirectory.lock(tmp_path)
    first.release()
    DataDirectory.lock(tmp_path).release()


def test_the_announcement_tells_where_the_node_is_and_goes_with_it(tmp_path: Path) -> None:
    directory = DataDirectory.lock(tmp_path / "data")
    directory.announce("http://127.0.0.1:1", "2026-01-01T00:00:00+00:00", "dsfn_local_0")
    document = json.loads((tmp_path / "data" / "node.json").read_text())
    assert (document["url"], document["pid"]) == ("http://127.0.0.1:1", os.getpid())
    directory.release()
    assert not (tmp_path / "data" / "node.json").exists()


def test_a_path_that_is_no_directory_is_a_mistake_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used as a data directory"):
        DataDirectory.lock(tmp_path / "file")
