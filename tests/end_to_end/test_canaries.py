"""A new revision gets a share of the calls, and then all of them or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from deadlines import eventually
from live_node import DeployFailed, Document, LiveNode, StartNode

from dsfn.runtime.deploy.bundle import BUNDLE_CONTENT_TYPE

TRIED = """
import time

import dsfn


@dsfn.function(name={name!r})
def tried(bad: bool = False, slow: float = 0.0) -> int:
    if bad and {number} > 1:
        raise ValueError("no good")
    time.sleep(slow if {number} > 1 else 0)
    return {number}
"""
TERMS = {"canary": "40", "promote_after_s": "0"}


class Tried:
    """A function of a test's own, in numbered versions."""

    def __init__(self, node: LiveNode, directory: Path, name: str) -> None:
        self.node, self.name, self.source = node, name, directory / "app.py"
        self.first = self.deploy(1)

    def deploy(self, number: int, **terms: str) -> str:
        """The revision."""
        self.source.write_text(TRIED.format(name=self.name, number=number), encoding="utf-8")
        return str(self.node.deploy(self.source, **terms)[self.name]["revision"])

    def call(self, times: int, **arguments: object) -> None:
        """However it may end."""
        for _ in range(times):
            self.node.call(self.name, **arguments)

    def call_until(self, state: str) -> None:
        """Goes on until the canary has come to that."""

        def is_there() -> bool:
            self.call(20)
            return bool(self.canary["state"] == state)

        eventually(is_there, f"the canary to be {state}")

    @property
    def canary(self) -> Document:
        """The last one."""
        document: Document = self.node.describe(self.name)["canary"]
        return document

    def ended(self) -> Document:
        """It, once it is over."""
        eventually(lambda: self.canary["state"] != "running", "the canary to end")
        return self.canary

    @property
    def traffic(self) -> Document:
        """Who gets how much."""
        traffic: Document = self.node.describe(self.name)["traffic"]
        return traffic


def test_a_revision_whose_calls_succeed_is_promoted(node: LiveNode, tmp_path: Path) -> None:
    tried = Tried(node, tmp_path, "promoted")
    assert tried.node.describe(tried.name)["canary"] is None
    second = tried.deploy(2, **TERMS)
    assert tried.traffic == {tried.first: 60, second: 40}
    assert tried.node.describe(tried.name)["revision"] == tried.first
    tried.call(10)
    assert tried.canary["state"] == "running"  # so few calls say nothing
    tried.call_until("promoted")
    assert tried.canary["calls"] >= 20
    assert tried.canary["failed"] == 0
    assert tried.traffic == {second: 100}
    assert node.value(tried.name) == 2


def test_a_revision_whose_calls_fail_is_taken_back(node: LiveNode, tmp_path: Path) -> None:
    tried = Tried(node, tmp_path, "failing")
    second = tried.deploy(2, canary="40", promote_after_s="600", max_error_percent="5")
    tried.call(20, bad=True)
    canary = tried.ended()
    assert (canary["state"], canary["revision"]) == ("rolled back", second)
    assert canary["reason"] == f"{canary['failed']} of {canary['calls']} calls failed"
    assert tried.traffic == {tried.first: 100}
    assert {node.value(tried.name, bad=True) for _ in range(10)} == {1}


def test_a_revision_whose_calls_take_too_long_is_taken_back(node: LiveNode, tmp_path: Path) -> None:
    tried = Tried(node, tmp_path, "slow")
    tried.deploy(2, canary="49", promote_after_s="600", max_p99_us="5000")
    tried.call(30, slow=0.02)
    canary = tried.ended()
    assert canary["state"] == "rolled back"
    assert canary["slow"] > 1
    assert canary["failed"] == 0
    assert tried.traffic == {tried.first: 100}


def test_wrong_arguments_are_no_failures_of_the_revision(node: LiveNode, tmp_path: Path) -> None:
    tried = Tried(node, tmp_path, "asked-wrongly")
    tried.deploy(2, **TERMS)
    tried.call(40, slow="very")
    tried.call_until("promoted")


@pytest.mark.parametrize("how", ["traffic", "deploy"])
def test_whoever_shares_the_calls_out_meanwhile_ends_the_canary(
    node: LiveNode, tmp_path: Path, how: str
) -> None:
    tried = Tried(node, tmp_path, f"stopped-by-{how}")
    second = tried.deploy(2, **TERMS)
    if how == "traffic":
        wanted = {tried.first: 10, second: 90}
        node.http.put(f"/functions/{tried.name}/traffic", json={"traffic": wanted})
    else:
        wanted = {tried.deploy(3): 100}
    assert tried.ended()["state"] == "stopped"
    tried.call(60)
    assert tried.traffic == wanted


def test_a_canary_goes_on_after_kill_9_and_counts_each_call_once(
    start: StartNode, tmp_path: Path
) -> None:
    place = tmp_path / "node"
    tried = Tried(start(place), tmp_path, "outlives")
    second = tried.deploy(2, **{**TERMS, "promote_after_s": "20"})
    tried.call(160)  # of which by chance some 64 are its: far more than it takes to be judged
    eventually(lambda: tried.canary["calls"], "calls to be counted")
    tried.call(10)
    tried.node.kill()
    tried.node = start(place, libraries=())
    rows = [row for row in tried.node.rows(tried.name) if row.revision == second]
    eventually(lambda: tried.canary["calls"] == len(rows), "all calls to be counted")
    assert tried.canary["state"] == "running"
    canary = tried.ended()
    assert (canary["state"], canary["calls"]) == ("promoted", len(rows))
    assert tried.traffic == {second: 100}


def test_a_function_without_another_revision_gets_all_calls(node: LiveNode, tmp_path: Path) -> None:
    source = tmp_path / "app.py"
    source.write_text(TRIED.format(name="alone", number=1), encoding="utf-8")
    revision = node.deploy(source, **TERMS)["alone"]["revision"]
    assert node.describe("alone")["traffic"] == {revision: 100}
    assert node.describe("alone")["canary"] is None


FLOW = """
import dsfn


@dsfn.function
def doubled(number: int) -> int:
    return 2 * number


@dsfn.workflow
def flowing(number: int) -> int:
    return doubled(doubled(number))
"""


def test_a_workflow_is_not_tried(node: LiveNode, tmp_path: Path) -> None:
    source = tmp_path / "app.py"
    source.write_text(FLOW, encoding="utf-8")
    with pytest.raises(DeployFailed, match="a canary is of functions alone"):
        node.deploy(source, **TERMS)
    assert node.http.get("/functions/doubled").status_code == 404


@pytest.mark.parametrize(
    "terms", [{"canary": "60"}, {"canary": "x"}, {"canary": "1.5"}, {"max_p99_us": "5"}]
)
def test_terms_that_make_no_sense_are_refused_at_once(
    node: LiveNode, terms: dict[str, str]
) -> None:
    answer = node.http.post(
        "/deployments",
        params={"entry": "app.py", **terms},
        headers={"Content-Type": BUNDLE_CONTENT_TYPE},
    )
    assert answer.json()["type"].endswith("/invalid-input"), answer.text
