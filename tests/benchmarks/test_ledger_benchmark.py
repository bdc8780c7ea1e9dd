"""The benchmark of the ledger runs from end to end, with PostgreSQL where it is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.postgres import programs

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = (
    *("--rows", "400", "--writers", "1,2", "--batches", "1,100"),
    *("--verify-rows", "500", "--report-rows", "500", "--kills", "1", "--calls", "20"),
)


def run(directory: Path, *arguments: str, **variables: str) -> tuple[Any, str]:
    output = directory / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ledger", *ARGUMENTS, *arguments, "--output", output],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory), **variables},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_bytes()), done.stdout


def test_every_part_is_in_the_results_with_its_aims_and_nothing_is_left_behind(
    tmp_path: Path,
) -> None:
    found, _ = run(tmp_path, "--stores", "sqlite")
    rows = found["rows"]
    assert {row["part"] for row in rows} == {"write", "verify", "report", "recover", "serve"}
    written = [(row["what"], row["batch"], row["writers"]) for row in rows if "batch" in row]
    cases = [(batch, writers) for batch in (1, 100) for writers in (1, 2)]
    assert written == [(what, *case) for case in cases for what in ("ledger", "plain")]
    aims = {aim["what"]: aim for aim in found["settings"]["aims"]}
    assert {"rows/s, 1 writer, 100 a batch", "slowest recovery, s"} <= aims.keys()
    assert "close, s" not in aims, "500 rows prove nothing about ten million"
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.skipif(programs() is None, reason="there is no PostgreSQL here")
def test_postgresql_is_measured_beside_sqlite() -> None:
    # Not below pytest's folders, which are closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="dsfn-test-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        found, _ = run(directory, "--only", "write,verify,report,recover")
    stores = {(row["part"], row["store"]) for row in found["rows"]}
    parts = ("write", "verify", "report", "recover")
    assert stores == {(part, store) for part in parts for store in ("sqlite", "postgresql")}


def test_without_postgresql_it_is_left_out_with_a_word(tmp_path: Path) -> None:
    path = str(Path(sys.executable).parent)
    if programs() is not None and Path("/usr/lib/postgresql").exists():
        pytest.skip("PostgreSQL is where it is looked for without the PATH, too")
    found, said = run(tmp_path, "--only", "write", PATH=path)
    assert "postgresql is left out: there is no postgres on the PATH" in said
    assert {row["store"] for row in found["rows"]} == {"sqlite"}
