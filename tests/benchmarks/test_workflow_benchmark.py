"""The benchmark of workflows runs from end to end with what every machine has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ("--seconds", "0.1", "--chains", "1,10", "--fans", "100", "--under-way", "20")


def run(tmp_path: Path, *arguments: str, **variables: str) -> tuple[Any, str]:
    output = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.workflow", *arguments, "--output", output],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_bytes()), done.stdout


def test_every_case_of_a_system_is_in_the_results_and_nothing_is_left_behind(
    tmp_path: Path,
) -> None:
    found, _ = run(tmp_path, "--systems", "asyncio", *ARGUMENTS)
    rows = {(row["shape"], row["size"]): row for row in found["rows"]}
    assert rows.keys() == {("chain", 1), ("chain", 10), ("fan", 100), ("load", 20)}
    assert [row["failed"] for row in rows.values()] == [""] * 4
    chain = rows["chain", 10]
    assert chain["step_ms"]["p50"] == pytest.approx(chain["run_ms"]["p50"] / 10)
    assert rows["load", 20]["runs_per_s"]["p50"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_system_whose_server_is_missing_is_left_out_with_a_word(tmp_path: Path) -> None:
    path = str(Path(sys.executable).parent)
    arguments = ("--systems", "asyncio,temporal", *ARGUMENTS)
    found, said = run(tmp_path, *arguments, PATH=path)
    assert "temporal is left out: there is no temporal-server on the PATH" in said
    assert {row["system"] for row in found["rows"]} == {"asyncio"}


def test_a_system_that_breaks_down_is_reported_and_the_others_are_measured(tmp_path: Path) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "postgres").symlink_to("/bin/false")
    path = os.pathsep.join((str(broken), os.environ["PATH"]))
    arguments = ("--systems", "dbos-postgres,asyncio", *ARGUMENTS, "--resume-peers", "1")
    found, said = run(tmp_path, *arguments, PATH=path)
    failed = {row["system"]: row.get("failed", "") for row in found["rows"] if "size" in row}
    assert failed["dbos-postgres"]
    assert failed["asyncio"] == ""
    assert "dbos-postgres resume: " in said.replace("\n", " ")
