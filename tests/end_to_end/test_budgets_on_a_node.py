"""Budgets on a real node: many calls at once, all ways in, kill -9."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from deadlines import eventually
from live_node import LiveNode, StartNode, start_node

from dsfn.billing.rates import RateCard

APP = """
import json
import time
from collections.abc import Iterator
from pathlib import Path

import dsfn


@dsfn.function(timeout="60s", max_replicas=4)
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@dsfn.function(timeout="60s")
def ticks(count: int) -> Iterator[int]:
    for number in range(count):
        time.sleep(0.1)
        yield number


@dsfn.workflow
def naps(seconds: float) -> float:
    return nap(nap(seconds))


@dsfn.on(type="sleepy")
@dsfn.function(timeout="60s")
def on_sleepy(event: dsfn.Event) -> None:
    time.sleep(float(event.json()))


@dsfn.on(type="dev.dsfn.budget.alert")
@dsfn.function
def on_alert(event: dsfn.Event) -> None:
    with Path("{folder}", "alerts").open("a") as file:
        file.write(json.dumps(event.json()) + "\\n")
"""
CARD = RateCard()
CPU_NANO_PER_S = 11_500


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """A node for most of the file."""
    folder = tmp_path_factory.mktemp("budgets")
    node = start_node(folder, libraries=())
    try:
        yield warmed(node, folder)
        assert node.stop() == 0, node.log
    finally:
        node.end()


@pytest.fixture
def warm(shared: LiveNode) -> LiveNode:
    """That node, without a budget: what was spent before a test is no matter to it."""
    for found in shared.http.get("/budgets").json()["budgets"]:
        assert shared.http.delete(f"/budgets/{found['id']}").is_success
    return shared


def warmed(node: LiveNode, folder: Path) -> LiveNode:
    (folder / "app.py").write_text(APP.replace("{folder}", str(folder)), encoding="utf-8")
    node.deploy(folder / "app.py")
    # Starting a replica costs its first caller a little: what is measured here starts warm.
    for function in ("nap", "ticks"):
        node.call(function, seconds=0) if function == "nap" else node.call(function, count=0)
    return node


def set_budget(node: LiveNode, amount_nano: int, **more: object) -> dict[str, Any]:
    answer = node.http.post("/budgets", json={"amount_nano": amount_nano, **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def budget(node: LiveNode, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = node.http.get(f"/budgets/{id_}").json()
    return found


def spent_nano(node: LiveNode) -> int:
    """What all rows of the ledger come to, but for those about which no budget cares."""
    return sum(CARD.cost_nano(row) for row in node.rows() if row.key_id != "budget-alerts")


def balance(node: LiveNode, account: str) -> int:
    """What an account of the ledger has."""
    node.settled()
    with closing(apsw.Connection(str(node.data / "ledger.db"))) as connection:
        query = "SELECT coalesce(sum(balance), 0) FROM accounts WHERE account = ?"
        rows: list[Any] = connection.execute(query, (account,)).fetchall()
        return int(rows[0][0])


def test_calls_at_the_same_time_do_not_overspend(warm: LiveNode) -> None:
    before = spent_nano(warm)
    # Enough for two calls at their dearest; for more of them as they are.
    amount = before + 2 * 62 * CPU_NANO_PER_S
    id_ = set_budget(warm, amount)["id"]

    def call(number: int) -> httpx.Response:
        return warm.call("nap", seconds=0.5)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(call, range(24)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}, [answer.text for answer in answers]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["type"].endswith("/budget-reserved")
    assert refused.headers["retry-after"] == "1"
    found = budget(warm, id_)
    assert found["reserved_nano"] == 0
    assert 0 <= found["spent_nano"] - spent_nano(warm) <= len(warm.rows())
    assert balance(warm, "reserved/default") == 0


def test_a_call_is_cut_off_where_the_budget_ends_and_the_next_is_not_taken(
    warm: LiveNode,
) -> None:
    amount = spent_nano(warm) + CPU_NANO_PER_S
    id_ = set_budget(warm, amount)["id"]
    answer = warm.call("nap", seconds=30)
    problem = answer.json()
    assert (answer.status_code, problem["type"][-16:]) == (402, "/budget-exceeded")
    assert (problem["budget"], problem["of"], problem["budget_nano"]) == (id_, "tenant", amount)
    assert amount - 200 <= spent_nano(warm) <= amount
    for again in (
        warm.call("nap", seconds=0),
        warm.http.post("/functions/nap", json={"seconds": 0}, headers={"Prefer": "respond-async"}),
        warm.http.post("/workflows/naps", json={"seconds": 0}),
    ):
        # The last few nano-units are too little for any call.
        assert (again.status_code, again.json()["budget"]) == (402, id_), again.text
        assert again.json()["resets_at"].endswith("-01T00:00:00Z")
    assert spent_nano(warm) <= amount
    raised = set_budget(warm, amount + 10 * CPU_NANO_PER_S)
    assert raised["id"] == id_ and warm.value("nap", seconds=0.01) == 0.01


def test_a_stream_is_cut_off_where_the_budget_ends(warm: LiveNode) -> None:
    amount = spent_nano(warm) + CPU_NANO_PER_S
    set_budget(warm, amount)
    answer = warm.call("ticks", count=100)
    events = [line for line in answer.text.splitlines() if line.startswith("event: ")]
    assert events[-1] == "event: error" and "budget-exceeded" in answer.text
    assert amount - 2_000 <= spent_nano(warm) <= amount
    assert warm.rows("ticks")[-1].status == "cancelled"


def test_a_run_and_an_event_end_with_the_budget_and_go_on_when_there_is_more(
    start: StartNode, tmp_path: Path
) -> None:
    node = warmed(start(), tmp_path)
    set_budget(node, 0)
    failed = node.http.post("/workflows/naps", json={"seconds": 0})
    assert failed.status_code == 402
    event = {"specversion": "1.0", "id": "1", "source": "/a", "type": "sleepy", "data": 0}
    content = {"Content-Type": "application/cloudevents+json"}
    assert node.http.post("/events", json=event, headers=content).status_code == 202

    def dead() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = node.http.get("/deadletters").json()["deadletters"]
        return found if len(found) == 2 else []

    letters = eventually(dead, "both to be given up")
    assert all(letter["error"]["type"].endswith("/budget-exceeded") for letter in letters)
    assert {letter["attempts"] for letter in letters} == {None, 1}
    set_budget(node, 10**9)
    for letter in letters:
        assert node.http.post(f"/deadletters/{letter['id']}/replay").status_code == 202
    eventually(lambda: len(node.rows("on-sleepy")) == 1, "the event to be taken")
    eventually(
        lambda: node.http.get("/runs", params={"state": "succeeded"}).json()["runs"], "the run"
    )
    assert balance(node, "reserved/default") == 0


def test_a_budget_for_a_key_stops_that_key_alone(warm: LiveNode) -> None:
    made = warm.http.post("/keys", json={"name": "k", "scopes": ["invoke"]}).json()
    set_budget(warm, 0, key_id=made["id"])
    with warm.client(made["key"]) as client:
        answer = client.post("/functions/nap", json={"seconds": 0})
        assert (answer.status_code, answer.json()["of"]) == (402, "key")
    assert warm.value("nap", seconds=0) == 0


def test_after_kill_9_what_is_spent_is_spent_and_alerts_were_told_once(
    start: StartNode, tmp_path: Path
) -> None:
    node = warmed(start(), tmp_path)
    alerts = tmp_path / "alerts"
    spent = spent_nano(node)
    budget_nano = spent + 2 * CPU_NANO_PER_S
    id_ = set_budget(node, budget_nano, alerts=[spent * 100 // budget_nano + 1, 1000])["id"]
    node.value("nap", seconds=0.5)
    eventually(alerts.exists, "the alert")
    with node.begin("nap", seconds=30):
        eventually(lambda: balance(node, "reserved/default") > 0, "the reservation in the ledger")
        before = budget(node, id_)
        assert before["reserved_nano"] > 0
        node.kill()
    assert balance(node, "reserved/default") == before["reserved_nano"]
    node = start(libraries=())
    after = budget(node, id_)
    assert balance(node, "reserved/default") == after["reserved_nano"] == 0
    # The call that was killed left no row.
    assert abs(after["spent_nano"] - before["spent_nano"]) <= 1
    assert after["alerted"] == before["alerted"]
    node.value("nap", seconds=0.1)
    assert node.stop() == 0, node.log
    told = [json.loads(line) for line in alerts.read_text(encoding="utf-8").splitlines()]
    assert [(each["budget"], each["percent"]) for each in told] == [(id_, before["alerted"][0])]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "amount_nano"),
        ({"amount_nano": 1.5}, "amount_nano"),
        ({"amount_nano": True}, "amount_nano"),
        ({"amount_nano": 1, "hard": "no"}, "hard"),
        ({"amount_nano": 1, "alerts": ["50"]}, "alerts"),
        ({"amount_nano": 1, "tenant": 7}, "tenant"),
        ({"amount_nano": 1, "tenant": ""}, "tenant"),
        ({"amount_nano": 1, "colour": "red"}, "colour"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_by_its_field(
    node: LiveNode, document: dict[str, object], field: str
) -> None:
    answer = node.http.post("/budgets", json=document)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert node.http.get("/budgets").json() == {"budgets": []}
    assert node.http.get("/budgets/0").status_code == 404


def test_a_budget_for_a_key_that_its_tenant_does_not_have_is_refused(node: LiveNode) -> None:
    made = node.http.post("/keys", json={"name": "k", "tenant": "bob", "scopes": ["invoke"]}).json()
    for key_id in ("nope", made["id"]):
        document = {"amount_nano": 1, "tenant": "acme", "key_id": key_id}
        answer = node.http.post("/budgets", json=document)
        assert (answer.status_code, answer.json()["name"]) == (404, key_id)
        assert repr(key_id) in answer.json()["detail"]
    assert node.http.get("/budgets").json() == {"budgets": []}


@pytest.mark.parametrize("path", ["/bill", "/budgets", "/invoices"])
def test_an_empty_tenant_is_not_everybody(node: LiveNode, path: str) -> None:
    answer = node.http.get(path, params={"tenant": ""})
    assert (answer.status_code, answer.json()["field"]) == (422, "tenant")
