"""Runs on a real node while it and its workers are killed: each ends once, right, and is billed
once for each step."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from deadlines import eventually
from live_node import APPS, LiveNode, StartNode

RUNS = int(os.environ.get("DSFN_KILL_LOOP_RUNS", "200"))
MAX_KILLS = int(os.environ.get("DSFN_KILL_LOOP_KILLS", "4"))
LONGEST_LIFE_S = 1.5
LAST_LIFE_S = 120.0
FUNCTIONS = ("double", "is-odd", "total")


def given(number: int) -> dict[str, Any]:
    return {"n": number, "ns": list(range(number % 7))}


def expected(number: int) -> list[int]:
    return [sum(2 * n for n in range(number % 7) if n % 2), 2 * number]


def test_runs_end_once_and_right_while_node_and_workers_are_killed(
    start: StartNode, tmp_path: Path
) -> None:
    node = start(tmp_path, libraries=())
    node.deploy(APPS / "durable.py")
    ids: dict[int, str] = {}
    for _ in range(MAX_KILLS):
        begin_some(node, ids, RUNS // MAX_KILLS)
        killer = threading.Thread(target=kill_workers, args=(node,))
        killer.start()
        time.sleep(random.uniform(0.0, LONGEST_LIFE_S))
        node.kill()
        killer.join()
        node = start(tmp_path, libraries=())
    begin_some(node, ids, RUNS - len(ids))
    for number, id_ in ids.items():
        document = eventually(partial(ended, node, id_), f"run {id_} to end", LAST_LIFE_S)
        assert document["state"] == "succeeded", document["error"]
        assert document["output"] == expected(number)
    billed = Counter(row.idempotency_key for row in node.rows() if row.status == "succeeded")
    assert billed == Counter(key for id_ in ids.values() for key in keys_of(node, id_))


def begin_some(node: LiveNode, ids: dict[int, str], count: int) -> None:
    """Starts so many runs more, each under a key of its own."""
    for number in range(len(ids), len(ids) + count):
        answer = node.http.post(
            "/workflows/durable",
            json=given(number),
            headers={"Idempotency-Key": str(number), "Prefer": "respond-async"},
        )
        assert answer.status_code == 202, answer.text
        ids[number] = answer.json()["id"]


def kill_workers(node: LiveNode) -> None:
    """Kills a worker now and then until the node is gone."""
    with suppress(httpx.HTTPError, RuntimeError):  # the latter once the client is closed
        while True:
            for pid in node.pids(random.choice(FUNCTIONS)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.3)


def ended(node: LiveNode, id_: str) -> dict[str, Any] | None:
    document: dict[str, Any] = node.http.get(f"/runs/{id_}").json()
    return document if document["state"] != "running" else None


def keys_of(node: LiveNode, id_: str) -> list[str]:
    """The keys under which the calls of a run are in the books."""
    steps = node.http.get(f"/runs/{id_}", params={"limit": 1000}).json()["steps"]
    return [
        f"run:{id_}/{step['id']}/{'' if step['item'] is None else step['item']}"
        for step in steps
        if step["function"] is not None and step["state"] == "succeeded"
    ]
