"""A node whose ledger is in PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from deadlines import eventually
from live_node import LiveNode, StartNode, environment
from postgres_server import PostgresServer


def dsfn(node: LiveNode, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dsfn", *arguments],
        env=environment({"DSFN_DATA": str(node.data)}),
        capture_output=True,
        text=True,
        timeout=120,
    )


def rows(database: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(
            "SELECT id, status FROM dsfn.entries WHERE kind = 'usage' ORDER BY seq"
        ).fetchall()


def invocation(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.headers["dsfn-invocation-id"])


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(
        "import dsfn\n\n\n@dsfn.function\ndef twice(n: int) -> int:\n    return 2 * n\n"
    )
    return tmp_path / "app.py"


def test_a_ledger_is_moved_and_the_node_goes_on_in_postgres_and_no_second_one_beside_it(
    start: StartNode, database: str, app: Path, tmp_path: Path
) -> None:
    node = start(tmp_path / "one", libraries=())
    node.deploy(app)
    before = [invocation(node.call("twice", n=n)) for n in range(3)]
    refused = dsfn(node, "ledger", "migrate", "--to", database)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Another process writes" in refused.stderr
    before.append(invocation(node.call("twice", n=9)))
    node.kill()
    moved = dsfn(node, "ledger", "migrate", "--to", database, "--json")
    assert moved.returncode == 0, moved.stderr
    found = json.loads(moved.stdout)
    assert found["equal"] and found["rows"] >= 3 and found["checkpoints"] >= 1

    node = start(tmp_path / "one", libraries=(), billing={"ledger": database})
    node.deploy(app)
    after = [invocation(node.call("twice", n=n)) for n in range(3)]
    node.settled()
    assert rows(database) == [(each, "succeeded") for each in before + after]
    (line,) = node.http.get("/bill").json()["lines"]
    assert line["requests"] == 7
    for path in ("/invoices/%00", "/bill?tenant=%00", "/invoices?tenant=a%00b"):
        assert node.http.get(path).status_code == 400
    with pytest.raises(AssertionError):
        start(tmp_path / "two", billing={"ledger": database})
    assert "a ledger has one writer" in (tmp_path / "two" / "node.log").read_text()
    assert node.stop() == 0
    checked = dsfn(node, "ledger", "verify", "--json")
    assert checked.returncode == 0 and json.loads(checked.stdout)["ok"]
    assert "Traceback" not in node.log


def test_a_ledger_that_was_not_moved_keeps_the_node_from_starting(
    start: StartNode, database: str, app: Path, tmp_path: Path
) -> None:
    node = start(libraries=())
    node.deploy(app)
    invocation(node.call("twice", n=1))
    assert node.stop() == 0
    with pytest.raises(AssertionError):
        start(billing={"ledger": database})
    assert "move it there with `dsfn ledger migrate" in node.log


def test_calls_are_answered_while_the_server_hangs_or_is_gone_and_their_rows_come_later(
    start: StartNode, postgres: PostgresServer, database: str, app: Path
) -> None:
    node = start(libraries=(), billing={"ledger": database})
    node.deploy(app)
    answered = [invocation(node.call("twice", n=1))]
    with ThreadPoolExecutor() as clients:
        postgres.pause()
        answered += [invocation(node.call("twice", n=n)) for n in range(20)]
        # Who reads waits for what was answered before; the node does all else meanwhile, at once.
        waits = clients.submit(node.http.get, f"/usage/{answered[-1]}")
        for path in ("/health/liveness", "/functions", "/metrics"):
            assert httpx.get(node.url + path, timeout=2).status_code == 200
        assert not waits.done()
        postgres.resume()
        assert waits.result().json()["invocation_id"] == answered[-1]
    postgres.kill()
    answered += [invocation(node.call("twice", n=n)) for n in range(20)]
    # Only the ledger knows whether this is the first answer.
    once = {"json": {"n": 2}, "headers": {"Idempotency-Key": "once"}}
    for lost in (
        node.http.post("/functions/twice", **once),  # type: ignore[arg-type]
        node.http.get(f"/usage/{answered[-1]}"),
    ):
        assert lost.status_code == 503
        assert lost.json()["type"] == "https://dsfn.dev/errors/store-unavailable"
        assert int(lost.headers["retry-after"]) >= 1
    assert node.http.get("/health/liveness").status_code == 200
    assert node.metric("dsfn_ledger_rows_waiting") >= 20
    postgres.start()
    url = f"/usage/{answered[-1]}"
    eventually(lambda: node.http.get(url).status_code == 200, "the ledger to be back")
    answered += [invocation(node.call("twice", n=4)) for _ in range(3)]
    answered.append(invocation(node.http.post("/functions/twice", **once)))  # type: ignore[arg-type]
    assert node.stop() == 0
    found = rows(database)
    assert len(set(found)) == len(found)
    assert {(each, "succeeded") for each in answered} <= set(found)
    checked = dsfn(node, "ledger", "verify", "--json")
    assert json.loads(checked.stdout)["ok"], checked.stdout


def test_a_node_that_was_killed_has_every_answer_in_the_books_and_starts_again(
    start: StartNode, database: str, app: Path
) -> None:
    node = start(libraries=(), billing={"ledger": database})
    node.deploy(app)
    answered = [invocation(node.call("twice", n=n)) for n in range(5)]
    node.kill()
    node = start(libraries=(), billing={"ledger": database})
    answered.append(invocation(node.call("twice", n=9)))
    node.settled()
    assert [id_ for id_, _ in rows(database)] == answered
    assert node.stop() == 0
