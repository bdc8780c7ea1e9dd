"""Usage that was measured elsewhere comes to a node's ledger over HTTP, once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from no_leases import meter_of
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dsfn.billing.interval import Interval
from dsfn.billing.posting_document import posting_document
from dsfn.billing.sqlite_ledger import SqliteLedger
from dsfn.billing.usage import Usage
from dsfn.functions.errors import DsfnError
from dsfn.runtime.config import Limits
from dsfn.runtime.gateway.request import BodyReader
from dsfn.runtime.gateway.usage import MAX_ROWS, ROUTES
from dsfn.runtime.problems import problem_response

CALL = Usage(
    invocation_id="call-1",
    tenant="acme",
    caller="10.0.0.1",
    function="echo",
    revision="echo-1",
    device_class="cpu",
    started_at_us=1_000,
    busy_us=5,
    held_us=7,
    restore_us=0,
    status="succeeded",
    idempotency_key="key:a",
    device="cpu",
    lease="lease-1",
)
HELD = Interval(
    kind="held",
    id="lease-1/0",
    lease="lease-1",
    device="cpu",
    devices=1,
    device_class="cpu",
    function="echo",
    revision="echo-1",
    tenant="",
    started_at_us=1_000,
    duration_us=7,
    reason="",
    closes=True,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


@pytest.fixture
def client(ledger: SqliteLedger) -> TestClient:
    app = Starlette(
        routes=ROUTES,
        exception_handlers={DsfnError: lambda _, error: problem_response(error)},
    )
    services = SimpleNamespace(ledger=ledger, meter=meter_of(ledger), bodies=BodyReader(Limits()))
    app.state.services = services
    return TestClient(app)


def rows(*found: Usage | Interval) -> dict[str, Any]:
    return {"rows": [posting_document(row) for row in found]}


def test_rows_are_in_the_ledger_once_however_often_they_come(
    client: TestClient, ledger: SqliteLedger
) -> None:
    for _ in range(3):
        answer = client.post("/usage", json=rows(CALL, HELD))
        assert (answer.status_code, answer.json()) == (200, {"refused": []})
    assert list(ledger.between(0, 10_000)) == [CALL]
    assert list(ledger.intervals(0, 10_000)) == [HELD]
    assert client.get("/usage/call-1").json() == posting_document(CALL)
    assert client.get("/usage/call-2").status_code == 404


def test_a_row_that_is_refused_is_named_and_the_others_are_taken(
    client: TestClient, ledger: SqliteLedger
) -> None:
    client.post("/usage", json=rows(CALL))
    again = replace(CALL, invocation_id="call-2")
    other = replace(CALL, invocation_id="call-3", idempotency_key="")
    answer = client.post("/usage", json=rows(again, other)).json()
    assert [(each["row"], each["problem"]["status"]) for each in answer["refused"]] == [(0, 409)]
    assert {row.invocation_id for row in ledger.between(0, 10_000)} == {"call-1", "call-3"}


def test_a_row_that_computed_for_longer_than_it_was_held_is_refused_alone(
    client: TestClient, ledger: SqliteLedger
) -> None:
    wrong = replace(CALL, invocation_id="call-0", busy_us=8, idempotency_key="")
    answer = client.post("/usage", json=rows(wrong, CALL, wrong)).json()
    assert [each["row"] for each in answer["refused"]] == [0, 2]
    problem = answer["refused"][0]["problem"]
    assert (problem["status"], problem["detail"]) == (
        409,
        "The row of call-0 has busy_us 8, more than the held_us 7 that it is part of.",
    )
    assert list(ledger.between(0, 10_000)) == [CALL]
    assert client.post("/usage", json=rows(wrong)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"rows": []}',
        b'{"rows": [1]}',
        b'{"rows": [{"posting": "usage"}]}',
        b'{"rows": [{"posting": "reservation"}]}',
    ],
)
def test_what_is_no_row_changes_nothing(
    client: TestClient, ledger: SqliteLedger, body: bytes
) -> None:
    answer = client.post("/usage", content=body)
    assert answer.status_code in (400, 422)
    assert not list(ledger.between(0, 10_000))


def test_more_rows_than_a_request_may_have_are_refused(
    client: TestClient, ledger: SqliteLedger
) -> None:
    many = [replace(CALL, invocation_id=f"c-{n}", idempotency_key="") for n in range(MAX_ROWS + 1)]
    assert client.post("/usage", json=rows(*many)).status_code == 422
    assert not list(ledger.between(0, 10_000))


def test_one_bad_row_keeps_the_others_out(client: TestClient, ledger: SqliteLedger) -> None:
    bad = {**posting_document(CALL), "held_us": -1}
    answer = client.post("/usage", json={"rows": [posting_document(CALL), bad]})
    assert answer.status_code == 422
    assert "rows.1" in answer.json()["detail"]
    assert not list(ledger.between(0, 10_000))
