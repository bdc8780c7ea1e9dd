"""`dsfn ledger verify`, beside a node, after one, after one that was killed, and on damage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from live_node import APPS, StartNode, environment

from dsfn.billing.spool import is_empty, rows_in
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.functions.errors import UsageError


def verify(data: Path, *options: str) -> tuple[int, str, str]:
    """Exit code, output and complaints of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "dsfn", "ledger", "verify", *options],
        env=environment({"DSFN_DATA": str(data)}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def found(data: Path) -> dict[str, Any]:
    """The document that `--json` prints."""
    code, output, _ = verify(data, "--json")
    document: dict[str, Any] = json.loads(output)
    assert code == (0 if document["ok"] else 1)
    return document


def test_the_ledger_of_a_node_is_right_at_any_time_and_says_what_is_wrong(
    start: StartNode, tmp_path: Path
) -> None:
    safe = tmp_path / "safe"
    safe.mkdir()
    billing = {"checkpoints": [safe.as_uri()]}
    node = start(billing=billing)
    node.deploy(APPS / "calls.py")
    for number in range(5):
        node.value("echo", text=str(number))
    beside = found(node.data)
    assert (beside["ok"], beside["problems"]) == (True, [])
    assert beside["rows"] >= 5
    with pytest.raises(UsageError, match="Another process writes"):
        SqliteLedger(node.data / "ledger.db")
    assert node.stop() == 0
    after = found(node.data)
    assert (after["ok"], after["checkpoints"] > 0) == (True, True)
    assert len(list(safe.iterdir())) == after["checkpoints"]
    before_kill = node.data.with_name("copy")
    shutil.copytree(node.data, before_kill)

    node = start(billing=billing)
    killed = node.call("echo", text="killed").headers["dsfn-invocation-id"]
    node.kill()
    # What a killed node has not posted is posted before the check.
    assert found(node.data)["ok"] and rows_in(node.data) == []
    assert node.rows_of(killed)
    node = start(billing=billing)
    node.value("echo", text="again")
    assert node.stop() == 0
    assert found(node.data)["ok"]
    assert found(node.data)["rows"] > after["rows"]

    # An older copy of the ledger is missing what was signed meanwhile.
    kinds = {problem["kind"] for problem in found(before_kill)["problems"]}
    assert kinds == {"checkpoint", "cut off"}


def test_damage_of_the_spool_is_named_and_kept_aside_and_nothing_else_is_lost(
    start: StartNode,
) -> None:
    node = start()
    node.deploy(APPS / "calls.py")
    node.value("echo", text="before")
    node.settled()
    with closing(apsw.Connection(str(node.data / "ledger.db"))) as connection:
        # So that what comes now waits in the spool.
        connection.execute("BEGIN IMMEDIATE")
        calls = [
            node.call("echo", text=str(n)).headers["dsfn-invocation-id"].encode() for n in range(3)
        ]
        node.kill()
    (path,) = (path for path in node.data.glob("ledger.spool*") if calls[1] in path.read_bytes())
    lines = path.read_bytes().splitlines(keepends=True)
    (hit,) = (number for number, line in enumerate(lines) if calls[1] in line)
    flipped = bytearray(lines[hit])
    flipped[len(flipped) // 2] ^= 4
    lines[hit] = bytes(flipped)
    # With what a writer leaves that is killed in the middle of a record.
    path.write_bytes(b"".join(lines) + lines[0][:20])

    document = found(node.data)
    (problem,) = document["problems"]
    assert (document["ok"], problem["row"], problem["kind"]) == (False, None, "spool")
    assert "ledger.spool.damaged" in problem["detail"]
    kept = json.loads((node.data / "ledger.spool.damaged").read_bytes())
    assert kept["lines"] == [lines[hit].decode().rstrip("\n")]
    ids = [row.invocation_id.encode() for row in node.rows("echo")]
    assert [call in ids for call in calls] == [True, False, True]

    # It is named for as long as it is there, also beside a node.
    node = start()
    assert found(node.data)["problems"] == [problem]
    assert node.stop() == 0
    code, output, complaint = verify(node.data)
    assert (code, complaint) == (1, "The ledger is not right: 1 problems.\n")
    assert "spool" in output
    (node.data / "ledger.spool.damaged").unlink()
    assert found(node.data)["ok"]


def test_a_spool_of_which_nothing_can_be_read_is_named(start: StartNode) -> None:
    node = start()
    assert node.stop() == 0
    (node.data / "ledger.spool").write_bytes(b"no record\n")
    for _ in range(2):
        assert [problem["kind"] for problem in found(node.data)["problems"]] == ["spool"]
    assert is_empty(node.data)


def test_damage_is_named_and_no_ledger_is_a_sentence(tmp_path: Path, start: StartNode) -> None:
    node = start()
    node.deploy(APPS / "calls.py")
    node.value("echo", text="x")
    assert node.stop() == 0
    path = node.data / "ledger.db"
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("DROP TRIGGER entries_are_never_updated")
        connection.execute("UPDATE entries SET held_us = held_us + 1 WHERE seq = 1")
    code, output, complaint = verify(node.data)
    assert code == 1
    assert "changed" in output
    assert complaint.startswith("The ledger is not right: ")
    assert {"row": 1, "kind": "changed"}.items() <= found(node.data)["problems"][0].items()
    path.write_bytes(b"no database\n" * 1000)
    assert [problem["kind"] for problem in found(node.data)["problems"]] == ["unreadable"]
    path.unlink()
    code, output, complaint = verify(node.data, "--json")
    assert (code, output) == (2, "")
    assert complaint == f"There is no ledger in {node.data}.\n"
