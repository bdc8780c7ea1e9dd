"""What a node says of itself and of its calls: headers, metrics, health, OpenAPI, bill, logs."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import PIL.Image
import pytest
from deadlines import eventually
from live_node import APPS, LiveNode
from openapi_spec_validator import OpenAPIV31SpecValidator

PHASES = ["queue", "start", "restore", "execute"]


@pytest.fixture(scope="module", autouse=True)
def deployed(node: LiveNode) -> None:
    node.deploy(APPS / "calls.py")


def phases_us(header: str) -> dict[str, float]:
    pieces = (piece.strip().split(";dur=") for piece in header.split(","))
    return {name: float(duration) * 1000 for name, duration in pieces}


def test_the_phases_of_a_call_are_told_and_add_up(node: LiveNode, tmp_path: Path) -> None:
    source = tmp_path / "app.py"
    source.write_text(TIMED)
    node.deploy(source)
    for cold in (True, False):
        began = time.monotonic()
        answer = node.call("timed", seconds=0.2)
        waited_us = (time.monotonic() - began) * 1e6
        told = phases_us(answer.headers["server-timing"])
        phases = {name: us for name, us in told.items() if "." not in name}
        assert list(phases) == PHASES
        assert any(name.startswith("restore.") for name in told) == cold
        assert (phases["start"] > 0, phases["restore"] > 0) == (cold, cold)
        assert phases["execute"] >= 200_000
        assert sum(phases.values()) <= waited_us
        # What is not in a phase is the way to the node and back.
        assert sum(phases.values()) >= waited_us - 2_000_000


def test_each_answer_carries_what_it_used_and_what_it_costs(node: LiveNode) -> None:
    answer = node.call("rest", seconds=0.1)
    row = node.row(answer)
    told = {name: answer.headers[f"dsfn-{name}"] for name in HEADERS}
    assert told == {
        "invocation-id": row.invocation_id,
        "revision": row.revision,
        "device-class": "cpu",
        "busy-us": str(row.busy_us),
        "held-us": str(row.held_us),
        "gpu-us": "0",
        # 11.5 micro-dollars a second.
        "cost-nano": str(row.held_us * 11_500_000 // 10**9),
        "currency": "USD",
    }
    assert row.held_us >= row.busy_us >= 100_000
    assert abs(row.started_at_us / 1e6 - time.time()) < 60
    assert (row.tenant, row.caller, row.function) == ("default", "127.0.0.1", "rest")


def test_metrics_count_what_happens(node: LiveNode) -> None:
    def count(status: str) -> float:
        return node.metric("dsfn_invocations_total", function="echo", status=status)

    node.value("echo", text="a")
    before = count("succeeded"), count("rejected")
    node.value("echo", text="a")
    node.call("echo", text=1)
    assert (count("succeeded"), count("rejected")) == (before[0] + 1, before[1] + 1)
    assert node.metric("dsfn_errors_total", error="InvalidInput", function="echo") >= 1
    assert node.metric("dsfn_cold_starts_total", function="echo") >= 1
    assert node.metric("dsfn_execute_duration_seconds_count", function="echo") >= 2
    assert node.metric("dsfn_replicas", function="echo", state="ready") >= 1
    answer = node.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_health_is_told_at_two_doors(node: LiveNode) -> None:
    for path in ("/health/liveness", "/health/readiness"):
        assert node.http.get(path).status_code == 200


def test_openapi_is_valid_and_lists_the_functions(node: LiveNode) -> None:
    document = node.http.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    paths = document["paths"]
    assert {"/functions/order", "/functions/measure", "/functions/shout"} <= paths.keys()
    operation = paths["/functions/measure"]["post"]
    assert "The width and height of a picture." in str(operation)
    assert "image/*" in operation["requestBody"]["content"]
    assert document["servers"][0]["url"] == node.url


def test_the_bill_adds_up_the_rows(node: LiveNode) -> None:
    node.value("echo", text="a")
    bill = node.http.get("/bill").json()
    (line,) = [one for one in bill["lines"] if one["function"] == "echo"]
    rows = [row for row in node.rows("echo") if row.status not in ("rejected", "platform")]
    assert line["requests"] == len(rows)
    assert line["held_us"] == line["quantity_us"] == sum(row.held_us for row in rows)
    assert (bill["currency"], bill["status"]) == ("USD", "open")
    assert bill["total_minor"] == sum(one["amount_minor"] for one in bill["lines"])
    table = node.http.get("/bill", headers={"Accept": "text/csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert "echo" in table.text


def test_what_a_function_prints_is_in_its_log(node: LiveNode) -> None:
    answer = node.call("speak", words=["one", "zwei", "три"])
    assert answer.status_code == 200

    def texts() -> list[str]:
        return [line["text"] for line in map(json.loads, node.http.get(path).text.splitlines())]

    path = "/functions/speak/logs"
    assert eventually(texts, "the lines") == ["one", "zwei", "три"]


def test_a_blob_can_be_put_and_referred_to(node: LiveNode) -> None:

    out = io.BytesIO()
    PIL.Image.new("RGB", (7, 5)).save(out, "PNG")
    put = node.http.post("/blobs", content=out.getvalue(), headers={"Content-Type": "image/png"})
    assert (put.status_code, put.json()["bytes"]) == (201, len(out.getvalue()))
    ref = put.json()["ref"]
    assert node.value("measure", picture={"$ref": ref}) == [7, 5]
    got = node.http.get(f"/blobs/{ref.rpartition(':')[2]}")
    assert (got.content, got.headers["content-type"]) == (out.getvalue(), "image/png")


def test_the_status_is_one_document(node: LiveNode) -> None:
    status = node.http.get("/status").json()
    assert (status["url"], status["pid"]) == (node.url, node.process.pid)
    assert status["data_dir"] == str(node.data)
    assert status["functions"] == len(node.http.get("/functions").json()["functions"])


HEADERS = (
    "invocation-id",
    "revision",
    "device-class",
    "busy-us",
    "held-us",
    "gpu-us",
    "cost-nano",
    "currency",
)

TIMED = """
import io
import json
import time

import torch

import dsfn


@dsfn.function(max_replicas=1)
class Timed:
    def setup(self) -> None:
        self.weights = torch.ones(1000)

    def __call__(self, seconds: float) -> float:
        time.sleep(seconds)
        return float(self.weights.sum())
"""
