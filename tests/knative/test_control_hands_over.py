"""A leader of the control service that is told to stop: what it has begun ends well, once, and the
other goes on with the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from deadlines import eventually
from live_control import LiveControl, Replica, live_control
from live_pod import s3_store
from postgres_server import PostgresServer
from s3_server import S3Server

APPS = Path(__file__).parent / "apps"
CALLERS = 4
TRIED = """\
import dsfn


@dsfn.function
def tried(bad: bool = False) -> int:
    if bad and {number} > 1:
        raise ValueError("no good")
    return {number}
"""


@pytest.fixture(scope="module")
def platform(
    s3: S3Server,
    any_postgres: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
    require: Callable[[str, str], None],
) -> Iterator[LiveControl]:
    """A platform with functions."""
    require("kubernetes", "pip install 'dsfn[knative]'")
    place, database = tmp_path_factory.mktemp("platform"), any_postgres.make_database()
    with live_control(place / "control", s3_store(s3), database) as platform:
        for each in platform.replicas:
            each.start()
        platform.leader()
        with platform.client() as http:
            platform.deploy(http, APPS / "lingering.py")
            deployed(platform, http, place, 1)
        yield platform
    any_postgres.drop_database(database)


@pytest.fixture
def both(platform: LiveControl) -> LiveControl:
    """That, with both replicas."""
    for each in platform.replicas:
        each.start()
    platform.leader()
    return platform


def deployed(
    control: LiveControl, http: httpx.Client, place: Path, number: int, **terms: str
) -> str:
    """The revision of `tried` with this number."""
    source = place / "tried.py"
    source.write_text(TRIED.format(number=number), encoding="utf-8")
    return str(control.deploy(http, source, **terms)["tried"]["revision"])


@contextmanager
def told_to_stop(control: LiveControl, leader: Replica) -> Iterator[None]:
    """Inside the block the leader waits for what is under way; after it the other leads."""
    with ThreadPoolExecutor(1) as threads, control.without(leader):
        before = leader.log.count("is told to stop")
        stopped = threads.submit(leader.stop)
        eventually(lambda: leader.log.count("is told to stop") > before, "it to be told")
        yield
        assert stopped.result() == 0, leader.log
    assert control.leader() is control.other(leader)


def test_what_is_under_way_ends_and_is_billed_once(both: LiveControl, tmp_path: Path) -> None:
    first, arguments = both.leader(), {"place": str(tmp_path)}
    event = {"specversion": "1.0", "id": "1", "type": "door.knocked", "source": "/door"}
    with both.client() as http, ThreadPoolExecutor(1) as clients:
        called = clients.submit(
            http.post, "/functions/linger", json={**arguments, "name": "call"}
        )
        run = http.post(
            "/workflows/lingering",
            json={**arguments, "name": "step"},
            headers={"prefer": "respond-async"},
        )
        http.post(
            "/events",
            content=json.dumps({**event, "data": arguments}),
            headers={"content-type": "application/cloudevents+json"},
        )
        for name in ("call", "step", "event"):
            eventually((tmp_path / name).exists, f"the {name} to begin")
        with told_to_stop(both, first):
            (tmp_path / "over").touch()
            assert (called.result().status_code, called.result().json()) == (200, "call")
        path = f"/runs/{run.headers['dsfn-run-id']}"
        eventually(lambda: http.get(path).json()["state"] != "running", "the run to end")
        assert http.get(path).json()["state"] == "succeeded"
        eventually(lambda: both.rows("attend"), "the event to be attended to")
    rows = [*both.rows("linger"), *both.rows("attend")]
    assert [row["status"] for row in rows] == ["succeeded"] * 3
    assert len({row["invocation_id"] for row in rows}) == 3
    assert called.result().headers["dsfn-invocation-id"] in {row["invocation_id"] for row in rows}


def test_calls_of_a_functions_own_url_go_on_while_the_leader_waits(
    both: LiveControl, tmp_path: Path
) -> None:
    first, arguments = both.leader(), {"place": str(tmp_path), "name": "call"}
    before = len(both.rows("tried"))
    (pod,) = (pod for name, pod in both.cluster.pods.items() if name.startswith("tried-"))
    with both.client() as http, ThreadPoolExecutor(1) as clients:
        called = clients.submit(http.post, "/functions/linger", json=arguments)
        eventually((tmp_path / "call").exists, "the call to begin")
        with told_to_stop(both, first):
            assert [pod.call().json() for _ in range(10)] == [1] * 10
            assert not called.done()
            (tmp_path / "over").touch()
            assert called.result().json() == "call"
    assert len(both.rows("tried")) == before + 10


def test_no_call_fails_while_the_leader_is_told_to_stop(both: LiveControl) -> None:
    first, is_over = both.leader(), False

    def call(_: int) -> list[tuple[int, str]]:
        found = []
        with both.client() as http:
            while not is_over:
                answer = http.post("/functions/tried", json={})
                found.append((answer.status_code, answer.text))
        return found

    before = len(both.rows("tried"))
    with ThreadPoolExecutor(CALLERS) as clients:
        calls = clients.map(call, range(CALLERS))
        time.sleep(1)
        try:
            with told_to_stop(both, first):
                pass
        finally:
            is_over = True
        answers = [each for found in calls for each in found]
    assert set(answers) == {(200, "1")}
    assert len(both.rows("tried")) == before + len(answers)


def test_a_leader_that_is_told_to_stop_hands_over_at_once(both: LiveControl) -> None:
    first = both.leader()
    assert first.stop() == 0, first.log
    assert both.holder() != first.name, "the other does not have to wait until it runs out"
    assert both.leader() is both.other(first)
    with both.client() as http:
        assert http.post("/functions/tried", json={}).json() == 1


@pytest.mark.parametrize(
    ("end", "is_good"), [(Replica.stop, True), (Replica.kill, False)], ids=["stopped", "killed"]
)
def test_a_canary_goes_on_under_the_next_leader(
    both: LiveControl, tmp_path: Path, end: Callable[[Replica], object], is_good: bool
) -> None:
    with both.client() as http:
        before = deployed(both, http, tmp_path, 1)
        first = both.leader()
        second = deployed(both, http, tmp_path, 2, canary="49", promote_after_s="0")

        def call(times: int) -> None:
            for _ in range(times):
                http.post("/functions/tried", json={"bad": not is_good})

        def canary() -> Any:
            return http.get("/functions/tried").json()["canary"]

        def rows() -> int:
            return sum(row["revision"] == second for row in both.rows("tried"))

        counted = rows()
        # Of fewer than 20 calls nothing follows, unless more than one in a hundred has failed.
        call(15 if is_good else 0)
        eventually(lambda: canary()["calls"] == rows() - counted, "its calls to be counted")
        assert canary()["state"] == "running"
        end(first)
        assert both.leader() is both.other(first)
        assert (canary()["state"], canary()["revision"]) == ("running", second)
        assert canary()["calls"] == rows() - counted

        def is_over() -> bool:
            call(5)
            return bool(canary()["state"] != "running")

        eventually(is_over, "the canary to end")
        winner = second if is_good else before
        assert canary()["state"] == ("promoted" if is_good else "rolled back")
        assert canary()["calls"] <= rows() - counted
        assert http.get("/functions/tried").json()["traffic"] == {winner: 100}

        def traffic() -> list[tuple[str, int]]:
            spec = both.cluster.of_kind("Service")["tried"]["spec"]
            return [(each["revisionName"], each["percent"]) for each in spec["traffic"]]

        eventually(lambda: [percent for _, percent in traffic()] == [100], "the Service to be told")
        assert http.post("/functions/tried", json={}).json() == (2 if is_good else 1)
