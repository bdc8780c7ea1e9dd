"""A run with a budget on a real node: it is cut off in time, and the books show no more."""

from __future__ import annotations

from pathlib import Path

from live_node import LiveNode

from dsfn.billing.rates import RateCard

APP = """
import time

import dsfn


@dsfn.function(timeout="20s")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@dsfn.workflow(budget="0.000004")
def frugal(seconds: float) -> list[float]:
    return dsfn.map(nap, [seconds, seconds, seconds])


@dsfn.workflow
def spared(seconds: float) -> float:
    return nap.step(budget="0.000002", fallback=0.0)(seconds)
"""
CARD = RateCard()


def test_a_run_is_cut_off_before_it_costs_more_than_its_budget(
    node: LiveNode, tmp_path: Path
) -> None:
    deploy(node, tmp_path)
    answer = node.http.post("/workflows/frugal", json={"seconds": 15})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (402, "https://dsfn.dev/errors/budget-exceeded")
    assert problem["budget_nano"] == 4_000
    run = node.http.get(f"/runs/{problem['run']}").json()
    rows = [row for row in node.rows("nap") if run["id"] in row.caller]
    spent_nano = sum(map(CARD.cost_nano, rows))
    assert spent_nano == run["cost"]["amount_nano"]
    assert 3_900 <= spent_nano <= 4_000
    answer = node.http.post("/workflows/frugal", json={"seconds": 0.01})
    assert answer.json() == [0.01, 0.01, 0.01]


def test_a_constant_stands_in_for_a_step_that_is_too_dear(node: LiveNode, tmp_path: Path) -> None:
    deploy(node, tmp_path)
    assert node.http.post("/workflows/spared", json={"seconds": 10}).json() == 0.0
    assert node.http.post("/workflows/spared", json={"seconds": 0.01}).json() == 0.01


def deploy(node: LiveNode, folder: Path) -> None:
    (folder / "frugal.py").write_text(APP, encoding="utf-8")
    node.deploy(folder / "frugal.py")
