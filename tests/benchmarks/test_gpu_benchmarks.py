"""The benchmarks of GPUs run from end to end on a stand-in, with models of no size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHEN = ("at rest", "in a restore")


def run(tmp_path: Path, *arguments: str) -> Any:
    output = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", *arguments, "--output", output, "--directory", tmp_path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_bytes())


def test_every_state_of_a_function_answers_and_a_peer_that_is_missing_is_reported(
    tmp_path: Path,
) -> None:
    pytest.importorskip("safetensors")
    found = run(
        tmp_path,
        *("benchmarks.coldstart_gpu", "--tiny", "--models", "text"),
        *("--states", "resident,parked,warm", "--peers", "safetensors,torch-memory-saver"),
    )
    rows = {(row["system"], row["state"]): row for row in found["rows"]}
    for state in ("resident", "parked", "warm"):
        assert rows["dsfn", state]["failed"] == ""
        assert rows["dsfn", state]["answer"]["n"] > 0
    assert rows["dsfn", "parked"]["phases"]["restore"]["p50"] > 0
    assert rows["safetensors", "load"]["answer"]["p50"] > 0
    assert rows["torch-memory-saver", "resume"]["failed"].startswith("does not run here")
    assert {"text, resident, one link", "text, parked, one link"} <= {
        aim["what"] for aim in found["settings"]["aims"]
    }


def test_twice_as_many_models_as_fit_all_answer_rightly(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        *("benchmarks.many_models", "--tiny", "--gpu", "128MiB", "--calls", "24", "--seconds", "4"),
        *("--systems", "dsfn,static"),
    )
    dsfn, static = found["rows"]
    assert found["settings"]["models"] == 2 * found["settings"]["fit"]
    assert (dsfn["answered"], dsfn["wrong"], dsfn["problems"]) == (24, 0, {})
    assert dsfn["cold_share"] > 0
    assert static["answered"] + static["problems"]["not-served"] == 24
    assert static["wrong"] == 0


def test_what_is_killed_is_back_with_the_right_answer(tmp_path: Path) -> None:
    found = run(tmp_path, "benchmarks.recovery", "--tiny", "--models", "image", "--rounds", "1")
    rows = {row["victim"]: row for row in found["rows"]}
    assert set(rows) == {f"{who}, {when}" for who in ("worker", "owner") for when in WHEN}
    assert all(row["back_ms"]["p50"] > 0 for row in rows.values())
