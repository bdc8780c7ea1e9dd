"""A call with a key runs once, whoever asks for it again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from deadlines import eventually
from live_node import APPS, LiveNode


@pytest.fixture(scope="module", autouse=True)
def deployed(node: LiveNode) -> None:
    node.deploy(APPS / "calls.py")
    node.deploy(APPS / "faults.py")


def keyed(node: LiveNode, key: str, path: Path, seconds: float = 0, **more: str) -> httpx.Response:
    """Runs `count_runs` under a key."""
    return node.http.post(
        "/functions/count-runs",
        json={"path": str(path), "seconds": seconds},
        headers={"Idempotency-Key": key, **more},
    )


def test_a_repeat_gets_the_first_answer_and_one_row(node: LiveNode, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    first, again = keyed(node, "repeat", path), keyed(node, "repeat", path)
    assert (first.json(), again.json(), path.read_text()) == (1, 1, "x")
    assert "dsfn-replayed" not in first.headers
    assert again.headers["dsfn-replayed"] == "true"
    for name in ("dsfn-invocation-id", "dsfn-revision", "dsfn-cost-nano", "content-type"):
        assert again.headers[name] == first.headers[name]
    rows = [row for row in node.rows("count-runs") if row.idempotency_key.endswith("repeat")]
    assert [row.invocation_id for row in rows] == [first.headers["dsfn-invocation-id"]]


def test_repeats_that_come_at_once_run_once(node: LiveNode, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(keyed, node, "at-once", path, 0.3) for _ in range(6)]
    answers = [one.result() for one in waiting]
    assert [answer.json() for answer in answers] == [1] * 6
    assert path.read_text() == "x"
    assert sum("dsfn-replayed" in answer.headers for answer in answers) == 5
    assert len({answer.headers["dsfn-invocation-id"] for answer in answers}) == 1
    rows = [row for row in node.rows("count-runs") if row.idempotency_key.endswith("at-once")]
    assert len(rows) == 1


def test_the_same_key_with_another_body_is_refused(node: LiveNode, tmp_path: Path) -> None:
    assert keyed(node, "other", tmp_path / "one").status_code == 200
    answer = keyed(node, "other", tmp_path / "two")
    assert answer.status_code == 422
    assert answer.json()["type"] == "https://dsfn.dev/errors/idempotency-mismatch"
    assert not (tmp_path / "two").exists()


def test_a_key_belongs_to_one_function(node: LiveNode) -> None:
    headers = {"Idempotency-Key": "shared"}
    echo = node.http.post("/functions/echo", json={"text": "a"}, headers=headers)
    anything = node.http.post("/functions/anything", json={"value": 1}, headers=headers)
    assert (echo.json(), anything.json()) == ("a", 1)


def test_what_the_function_said_of_an_input_is_a_first_answer_too(node: LiveNode) -> None:
    headers = {"Idempotency-Key": "raises"}
    body = {"kind": "do_raise"}
    first = node.http.post("/functions/fault", json=body, headers=headers)
    again = node.http.post("/functions/fault", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (500, 500)
    assert first.json()["traceback"] == again.json()["traceback"]
    rows = [row for row in node.rows("fault") if row.idempotency_key.endswith("raises")]
    assert len(rows) == 1


def test_a_call_that_crashed_may_be_tried_again_under_its_key(node: LiveNode) -> None:
    headers = {"Idempotency-Key": "crashes"}
    body = {"kind": "leave"}
    for _ in range(2):
        answer = node.http.post("/functions/fault", json=body, headers=headers)
        assert (answer.status_code, answer.json()["exit_code"]) == (502, 3)
    rows = [row for row in node.rows("fault") if row.idempotency_key.endswith("crashes")]
    assert [row.status for row in rows] == ["failed", "failed"]


def test_an_asynchronous_repeat_is_the_same_invocation(node: LiveNode, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    first = keyed(node, "later", path, Prefer="respond-async")
    again = keyed(node, "later", path, Prefer="respond-async")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.headers["location"] == again.headers["location"]
    result = f"{first.headers['location']}/result"
    eventually(lambda: node.http.get(result).status_code == 200, "the result")
    assert (node.http.get(result).json(), path.read_text()) == (1, "x")
    changed = keyed(node, "later", tmp_path / "other", Prefer="respond-async")
    assert changed.status_code == 422


@pytest.mark.parametrize("key", ["", "k" * 10_000], ids=["empty", "very long"])
def test_a_key_that_is_none_is_refused(node: LiveNode, key: str, tmp_path: Path) -> None:
    answer = keyed(node, key, tmp_path / "runs")
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")
    assert not (tmp_path / "runs").exists()


def test_a_direct_event_runs_once(node: LiveNode) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "direct-1",
        "ce-source": "/repeats",
        "ce-type": "greeting",
    }
    first = node.http.post("/functions/greet", json={"name": "you"}, headers=headers)
    again = node.http.post("/functions/greet", json={"name": "you"}, headers=headers)
    assert first.json() == again.json() == {"hello": "you", "source": "/repeats"}
    assert again.headers["dsfn-replayed"] == "true"
    rows = [row for row in node.rows("greet") if "direct-1" in row.idempotency_key]
    assert len(rows) == 1


def test_a_direct_event_that_failed_is_tried_again(node: LiveNode) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "direct-2",
        "ce-source": "/repeats",
        "ce-type": "greeting",
    }
    for _ in range(2):
        answer = node.http.post("/functions/greet", json={}, headers=headers)
        assert (answer.status_code, "replayed" in answer.json()) == (500, False)
    rows = [row for row in node.rows("greet") if "direct-2" in row.idempotency_key]
    assert [row.status for row in rows] == ["failed", "failed"]
