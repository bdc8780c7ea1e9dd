"""`dsfn snapshot` against a real node that has a store."""

from __future__ import annotations

import re
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_documents import assert_shape, documented
from cli_runs import Dsfn

from dsfn.runtime.cli.bars import spans
from dsfn.runtime.cli.timeline_picture import ticks

SOURCE = """
import torch

import dsfn


@dsfn.function(name="weigh", park_after="1h", remove_after="1h")
class Weigh:
    def setup(self) -> None:
        self.weights = torch.ones(100_000)

    def sample(self) -> dict[str, object]:
        return {}

    def __call__(self, spoil: bool = False) -> float:
        self.weights += spoil
        return float(self.weights.sum())


@dsfn.function
def greet() -> str:
    return "hello"
"""


@pytest.fixture(scope="module")
def dsfn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dsfn]:
    """A node with a store, and with the functions above."""
    directory = tmp_path_factory.mktemp("snapshots")
    (directory / "store").mkdir()
    (directory / "data").mkdir()
    (directory / "data" / "config.toml").write_text(
        f'[snapshots]\nstore = "file://{directory}/store"\nmax_disk_bytes = 1_000_000_000\n'
    )
    (directory / "app.py").write_text(SOURCE)
    command_line = Dsfn(directory, {"DSFN_DATA": str(directory / "data")})
    assert command_line("up", "--detach", "--port", "0").code == 0
    try:
        assert command_line("deploy", "app.py").code == 0
        yield command_line
    finally:
        command_line("down")


@pytest.fixture
def digest(dsfn: Dsfn) -> str:
    """That of the one snapshot, once the store has it."""
    found = str(dsfn("describe", "weigh", "--json").json()["snapshot"]["digest"])
    wait_for(lambda: stored_state(dsfn) == "stored")
    return found


def stored_state(dsfn: Dsfn) -> str:
    return str(dsfn("snapshot", "show", "weigh", "--json").json()["store"]["state"])


def test_snapshots_are_listed_with_where_they_are(dsfn: Dsfn, digest: str) -> None:
    document = dsfn("snapshot", "list", "--json").json()
    assert_shape(document, documented("dsfn snapshot list"))
    (row,) = document["snapshots"]
    assert (row["digest"], row["functions"], row["device"]) == (digest, ["weigh"], "cpu")
    assert row["tiers"] == ["disk", "store"]
    assert document["disk"] == {"used_bytes": row["bytes"], "max_bytes": 1_000_000_000}
    assert document["store"]["fault"] is None
    shown = dsfn("snapshot", "list").out
    assert shown.startswith("DIGEST")
    assert f"{digest[:12]}  weigh" in shown
    assert "disk, store" in shown
    assert "Store: file://" in shown


def test_a_snapshot_is_shown_by_function_revision_or_digest(dsfn: Dsfn, digest: str) -> None:
    document = dsfn("snapshot", "show", "weigh", "--json").json()
    assert_shape(document, documented("dsfn snapshot show"))
    (revision,) = document["revisions"]
    for name in (revision, digest, digest[:8]):
        assert dsfn("snapshot", "show", name, "--json").json()["digest"] == digest
    assert document["slabs"][0]["first_use"] == 1
    assert document["largest"][0]["shape"] == [100_000]
    assert sum(file["bytes"] for file in document["files"]) == document["bytes"]
    text = dsfn("snapshot", "show", "weigh").out
    assert "golden output: application/json" in text
    assert "weights  F32   100000" in text


def test_a_function_without_a_snapshot_and_an_unknown_name_are_sentences(dsfn: Dsfn) -> None:
    for command in ("show", "verify", "push", "pull", "pin", "unpin"):
        run = dsfn("snapshot", command, "greet")
        assert (run.code, run.out) == (1, "")
        assert "has no snapshot. A plain function has no state to capture." in run.err
        run = dsfn("snapshot", command, "nobody")
        assert (run.code, run.err.count("\n")) == (1, 1)
        assert "'nobody'" in run.err


def test_a_sound_snapshot_is_verified_with_a_trial_restore(dsfn: Dsfn, digest: str) -> None:
    document = dsfn("snapshot", "verify", "weigh", "--json").json()
    assert_shape(document, documented("dsfn snapshot verify"))
    assert (document["sound"], document["restored"]) == (True, True)
    run = dsfn("snapshot", "verify", digest[:10])
    assert run.code == 0
    assert f"Snapshot {digest[:12]} is sound" in run.out


def test_a_damaged_snapshot_is_said_to_be_and_pulled_again(dsfn: Dsfn, digest: str) -> None:
    (slab,) = (dsfn.directory / "data" / "snapshots" / digest).glob("slab*")
    slab.chmod(0o644)
    data = bytearray(slab.read_bytes())
    data[-1] ^= 1
    slab.write_bytes(data)
    run = dsfn("snapshot", "verify", "weigh")
    assert (run.code, run.out) == (1, "")
    assert f"The bytes of {slab.name} differ from their digest." in run.err
    run = dsfn("snapshot", "verify", "weigh", "--json")
    assert run.code == 1
    pulled = dsfn("snapshot", "pull", "weigh", "--json").json()
    assert_shape(pulled, documented("dsfn snapshot pull"))
    assert dsfn("snapshot", "verify", "weigh").code == 0


def test_a_snapshot_is_pushed_again_without_harm(dsfn: Dsfn, digest: str) -> None:
    pushed = dsfn("snapshot", "push", digest, "--json").json()
    assert_shape(pushed, documented("dsfn snapshot push"))
    assert "disk, store" in dsfn("snapshot", "push", "weigh").out


def test_a_prefetch_brings_back_what_left_the_disk(dsfn: Dsfn, digest: str) -> None:
    directory = dsfn.directory / "data" / "snapshots" / digest
    directory.rename(dsfn.directory / "gone")
    assert dsfn("snapshot", "list", "--json").json()["snapshots"][0]["tiers"] == ["store"]
    assert_shape(
        dsfn("snapshot", "prefetch", "weigh", "--json").json(), documented("dsfn snapshot prefetch")
    )
    assert directory.is_dir()
    run = dsfn("snapshot", "prefetch", "weigh", "greet")
    assert run.code == 1
    assert "greet: A plain function has no state to capture." in run.err
    assert dsfn("snapshot", "prefetch", "nobody").code == 1


def test_a_snapshot_is_pinned_and_pinned_no_more(dsfn: Dsfn, digest: str) -> None:
    pinned = dsfn("snapshot", "pin", "weigh", "--json").json()
    assert_shape(pinned, documented("dsfn snapshot pin"))
    assert "pinned" in dsfn("snapshot", "list").out
    unpinned = dsfn("snapshot", "unpin", digest[:8], "--json").json()
    assert_shape(unpinned, documented("dsfn snapshot unpin"))
    assert "pinned" not in dsfn("snapshot", "list").out
    assert dsfn("snapshot", "pin", "0" * 64).code == 1


def test_pruning_shows_what_it_would_delete(dsfn: Dsfn) -> None:
    document = dsfn("snapshot", "prune", "--dry-run", "--json").json()
    assert_shape(document, documented("dsfn snapshot prune"))
    assert document == {"dry_run": True, "freed_bytes": 0, "pruned": []}
    assert dsfn("snapshot", "prune").out == "There is nothing to delete.\n"


def test_the_last_cold_call_is_shown_phase_by_phase_and_drawn(dsfn: Dsfn) -> None:
    run = dsfn("snapshot", "timeline", "greet")
    assert (run.code, run.out) == (1, "")
    assert "has waited for a replica" in run.err
    assert dsfn("snapshot", "timeline", "greet", "--json").json()["calls"] == []
    for _ in range(2):
        assert dsfn("invoke", "weigh").out == "100000.0\n"
    document = dsfn("snapshot", "timeline", "weigh", "--json").json()
    assert_shape(document, documented("dsfn snapshot timeline"))
    (call,) = document["calls"]
    assert call["phases_us"]["restore"] > 0, "and the warm call is not there"
    text = dsfn("snapshot", "timeline", "weigh", "--png", "weigh.png").out
    names = [line.split()[0] for line in text.splitlines()[1:]]
    assert names == [*(name.rpartition(".")[2] for name in call["phases_us"]), "total"]
    picture = (dsfn.directory / "weigh.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", picture[16:24])
    assert (width, height) >= (1200, 400)


def test_a_picture_without_pillow_or_room_is_a_sentence(
    dsfn: Dsfn, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsfn("invoke", "weigh")
    run = dsfn("snapshot", "timeline", "weigh", "--png", "no/such/directory.png")
    assert (run.code, run.out) == (1, "")
    assert "cannot be written: No such file or directory." in run.err
    monkeypatch.setitem(sys.modules, "PIL", None)
    run = dsfn("snapshot", "timeline", "weigh", "--png", "weigh.png")
    assert (run.code, run.err) == (2, "A picture needs Pillow: run `pip install 'dsfn[media]'`.\n")


@pytest.mark.parametrize("total_us", [1, 7, 950, 96_400, 612_300, 61_000_000])
def test_an_axis_has_a_few_round_numbers(total_us: int) -> None:
    found = list(ticks(total_us))
    assert found[0] == (0, "0")
    assert 2 <= len(found) <= 10
    assert all(at <= total_us for at, _ in found)


def test_phases_follow_each_other_and_parts_lie_within() -> None:
    phases = {"start": 2, "restore": 5, "restore.map": 1, "restore.copy": 3, "execute": 4}
    found = {span.name: (span.start_us, span.end_us) for span in spans(phases)}
    assert found == {
        "start": (0, 2),
        "restore": (2, 7),
        "restore.map": (2, 3),
        "restore.copy": (3, 6),
        "execute": (7, 11),
    }


def test_without_a_store_it_is_said_that_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SOURCE)
    own = Dsfn(tmp_path, {"DSFN_DATA": str(tmp_path / "data")})
    own("up", "--detach", "--port", "0")
    try:
        assert own("deploy", "app.py").code == 0
        document: Any = own("snapshot", "list", "--json").json()
        assert document["store"] is None
        assert document["snapshots"][0]["tiers"] == ["disk"]
        run = own("snapshot", "push", "weigh")
        assert run.code == 1
        assert run.err.startswith("This node has no store for snapshots")
    finally:
        own("down")


def wait_for(happened: Callable[[], bool]) -> None:
    """Waits until it has happened."""
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_weights_of_replicas_are_verified_where_they_are(dsfn: Dsfn, digest: str) -> None:
    assert dsfn("snapshot", "verify", "greet", "--replicas").out == "greet has no replica.\n"
    assert dsfn("invoke", "weigh").out.strip() == "100000.0"
    document = dsfn("snapshot", "verify", "weigh", "--replicas", "--json").json()
    assert_shape(document, documented("dsfn snapshot verify", 1))
    (replica,) = document["replicas"]
    assert replica.keys() == documented("dsfn snapshot verify", 1)["replicas"][0].keys()
    assert replica["intact"]
    run = dsfn("snapshot", "verify", "weigh", "--replicas")
    assert run.code == 0
    assert re.search(rf"{replica['pid']}  weigh-\w+  ready  cpu    intact", run.out)


def test_weights_that_were_written_to_are_a_failure(dsfn: Dsfn, digest: str) -> None:
    assert dsfn("invoke", "weigh", "--data", '{"spoil": true}').out.strip() == "200000.0"
    run = dsfn("snapshot", "verify", "weigh", "--replicas")
    assert run.code == 1
    assert "changed" in run.out
    assert "Its weights in the memory of cpu are not those that were captured." in run.err
    assert dsfn("invoke", "weigh").out.strip() == "100000.0"
    assert dsfn("snapshot", "verify", "weigh", "--replicas").code == 0
