"""Rates that change while a node runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from live_node import StartNode

SOURCE = """\
import dsfn


@dsfn.function
def wait() -> str:
    return "done"
"""
FEE_NANO = 1_000_000


def test_a_card_that_is_set_prices_the_next_call_and_outlives_kill_9(
    start: StartNode, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(SOURCE, encoding="utf-8")
    node = start(libraries=())
    node.deploy(tmp_path / "app.py")
    before = node.call("wait")
    rate = {"pico_per_second": 0, "pico_per_request": FEE_NANO * 1000}
    answer = node.http.post("/rates", json={"devices": {"cpu": rate}})
    assert (answer.status_code, answer.headers["location"]) == (201, "/rates/2")
    card: dict[str, Any] = answer.json()
    assert card["in_force"] and card["source"] == "set"
    after = node.call("wait")
    assert int(before.headers["dsfn-cost-nano"]) < FEE_NANO
    assert int(after.headers["dsfn-cost-nano"]) == FEE_NANO
    node.kill()
    node = start(libraries=())
    assert node.http.get("/rates/2").json() == card
    lines = node.http.get("/bill").json()["lines"]
    assert [(line["card"], line["requests"]) for line in lines] == [(1, 1), (2, 1)]
    assert lines[1]["amount_nano"] == FEE_NANO


def test_a_card_that_makes_no_sense_is_refused_by_its_setting(start: StartNode) -> None:
    node = start(libraries=())
    answer = node.http.post("/rates", json={"default": {"pico_per_second": -1}})
    assert (answer.status_code, answer.json()["field"]) == (422, "default.pico_per_second")
    rate = {"pico_per_second": 1}
    other = node.http.post("/rates", json={"currency": "EUR", "default": rate})
    assert (other.status_code, other.json()["currency"]) == (409, "USD")
    large = node.http.post("/rates", content=b" " * (1 << 17))
    assert (large.status_code, large.json()["limit_bytes"]) == (413, 64 << 10)
    assert len(node.http.get("/rates").json()["rates"]) == 1
