"""A node that is killed again and again: every run ends once, right, and is billed once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import killable
from run_node import COST_NANO, RunNode

from dsfn.runtime.workflows.model import RunState, StepState

RUNS = int(os.environ.get("DSFN_KILL_LOOP_RUNS", "200"))
MAX_KILLS = int(os.environ.get("DSFN_KILL_LOOP_KILLS", "12"))
LAST_LIFE_S = 60.0


def test_every_run_ends_once_and_right_however_often_the_node_is_killed(tmp_path: Path) -> None:
    luck = random.Random()
    calls = tmp_path / "calls"
    calls.touch()
    done: set[str] = set()
    for kills in range(MAX_KILLS + 1):
        seen = len(calls.read_text(encoding="utf-8").splitlines())
        killed = live(tmp_path, luck.uniform(0.0, 0.5) if kills < MAX_KILLS else None)
        # What was stored when it was killed is not run again.
        lines = calls.read_text(encoding="utf-8").splitlines()
        assert done.isdisjoint(lines[seen:])
        done = finished(tmp_path)
        if not killed:
            break
    assert kills > 0, "it was never killed"
    check(tmp_path)


def live(root: Path, life_s: float | None) -> bool:
    """One life of the node; whether it was killed before its end."""
    program = [sys.executable, killable.__file__, str(root), str(RUNS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment) as node:
        assert node.stdout is not None
        assert node.stdout.readline() == "up\n"
        try:
            assert node.wait(life_s or LAST_LIFE_S) == 0
        except subprocess.TimeoutExpired:
            node.kill()
            assert life_s is not None, "runs are left that do not end"
            return True
    return False


@contextmanager
def at_rest(root: Path) -> Iterator[RunNode]:
    """What is stored, with nothing running."""
    node = RunNode(root, interfaces=killable.INTERFACES)
    node.deploy(killable.flow())
    try:
        yield node
    finally:
        node.drop()


def finished(root: Path) -> set[str]:
    """The places of all calls whose result is stored."""
    with at_rest(root) as node:
        return {
            f"run:{run.id}/{step.step}/{'.'.join(map(str, step.path))}"
            for run in node.store.list(limit=10_000)
            for _, step, _ in node.store.steps(run.id)
            if step.state is StepState.SUCCEEDED and step.function is not None
        }


def check(root: Path) -> None:
    """Each run succeeded with what it should give; each of its calls is in the books once, and
    its end was told once."""
    with at_rest(root) as node:
        runs = node.store.list(limit=10_000)
        assert {run.state for run in runs} == {RunState.SUCCEEDED}
        outputs = [node.output(run) for run in runs]
        assert sorted(map(str, outputs)) == sorted(str(killable.expected(n)) for n in range(RUNS))
        billed = Counter(u.caller for u in node.billed() if u.status == "succeeded")
        assert billed == Counter(finished(root))
        ids = [id_ for (id_,) in node.connection.execute("SELECT id FROM accepted_events")]
        assert Counter(ids) == Counter(
            f"{run.id}.{what}" for run in runs for what in ("started", "ended")
        )
        costs = Counter[str]()
        for usage in node.billed():
            costs[usage.caller.split("/")[0].removeprefix("run:")] += COST_NANO
        assert costs == {run.id: run.cost_nano for run in runs}
