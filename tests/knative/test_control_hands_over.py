"""A leader of the control service that is told to stop: what it has begun ends well, once, and the
other goes on with the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from deadlines import eventually
from live_control import LiveControl, Replica, running_platform
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
    place = tmp_path_factory.mktemp("platform")
    with running_platform(place / "control", s3, any_postgres) as platform:
        with platform.client() as http:
            platform.deploy(http, APPS / "lingering.py")
            deployed(platform, http, place, 1)
        yield platform


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
def told_to_stop(control: LiveControl, leader: Replica) -> Iterator[Future[int]]:
    """Inside the block the leader waits for what is under way, and the Service leaves it out: a
    moment after it was told, as the nodes of a cluster know of it later. After the block the other
    leads."""
    with ThreadPoolExecutor(1) as threads:
        before = leader.log.count("is told to stop")
        stopped = threads.submit(leader.stop)
        eventually(lambda: leader.log.count("is told to stop") > before, "it to be told")
        with control.service.without(leader.port):
            yield stopped
            assert stopped.result() == 0, leader.log
    assert control.leader() is control.other(leader)


def test_what_is_under_way_ends_and_is_billed_once(both: LiveControl, tmp_path: Path) -> None:
    first, arguments = both.leader(), {"place": str(tmp_path)}
    event = {"specversion": "1.0", "id": "1", "type": "door.knocked", "source": "/door"}
    with both.client() as http, ThreadPoolExecutor(1) as clients:
        called = clients.submit(http.post, "/functions/linger", json={**arguments, "name": "call"})
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
    assert called.result().headers["dsfn-invocation-id"] in {row["id"] for row in rows}


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
        try:
            eventually(lambda: len(both.rows("tried")) > before + 10 * CALLERS, "calls")
            with told_to_stop(both, first) as stopped:
                stopped.result()
                is_over = True
                answers = [each for found in calls for each in found]
        finally:
            is_over = True
    assert set(answers) == {(200, "1")}
    assert len(both.rows("tried")) == before + len(answers)


def test_a_leader_that_is_told_to_stop_hands_over_at_once(both: LiveControl) -> None:
    first = both.leader()
    assert first.stop() == 0, first.log
    assert both.holder() != first.name, "the other does not have to wait until it runs out"
    assert both.leader() is both.other(first)
    with both.client() as http:
        assert http.post("/functions/tried", json={}).json() == 1


class Canary:
    """The second version of `tried` on trial, and what is known of it."""

    def __init__(self, control: LiveControl, http: httpx.Client, place: Path) -> None:
        self.control, self.http = control, http
        self.baseline = deployed(control, http, place, 1)
        self._rows_before = 0
        self.revision = deployed(control, http, place, 2, canary="49", promote_after_s="0")
        self._rows_before = self.rows

    @property
    def rows(self) -> int:
        """How many of its calls are on the books since it began."""
        rows = self.control.rows("tried")
        return len([row for row in rows if row["revision"] == self.revision]) - self._rows_before

    @property
    def told(self) -> Any:
        """What is said of it."""
        return self.http.get("/functions/tried").json()["canary"]

    def call(self, times: int, bad: bool = False) -> None:
        """Calls of the function, some of which it gets."""
        for _ in range(times):
            self.http.post("/functions/tried", json={"bad": bad})

    def call_until_it_ends(self, bad: bool = False) -> str:
        """How it ended."""

        def is_over() -> bool:
            self.call(5, bad)
            return bool(self.told["state"] != "running")

        eventually(is_over, "the canary to end")
        return str(self.told["state"])

    def shares(self) -> list[int]:
        """Of the Service's revisions."""
        spec = self.control.cluster.of_kind("Service")["tried"]["spec"]
        return sorted(each["percent"] for each in spec["traffic"])


@pytest.mark.parametrize("end", [Replica.stop, Replica.kill])
def test_a_canary_is_promoted_by_the_next_leader(
    both: LiveControl, tmp_path: Path, end: Callable[[Replica], object]
) -> None:
    with both.client() as http:
        canary, first = Canary(both, http, tmp_path), both.leader()
        canary.call(19)  # of fewer than 20 nothing follows
        eventually(lambda: canary.told["calls"] == canary.rows, "its calls to be counted")
        end(first)
        assert both.leader() is both.other(first)
        told = canary.told
        assert (told["state"], told["revision"]) == ("running", canary.revision)
        assert told["calls"] == canary.rows
        assert canary.shares() == [49, 51]
        assert canary.call_until_it_ends() == "promoted"
        assert 20 <= canary.told["calls"] <= canary.rows
        eventually(lambda: canary.shares() == [100], "the Service to be told")
        assert http.post("/functions/tried", json={"bad": True}).status_code == 500


def test_a_canary_is_taken_back_by_the_next_leader(both: LiveControl, tmp_path: Path) -> None:
    with both.client() as http:
        canary, first = Canary(both, http, tmp_path), both.leader()
        assert first.stop() == 0, first.log
        assert both.leader() is both.other(first)
        assert canary.call_until_it_ends(bad=True) == "rolled back"
        eventually(lambda: canary.shares() == [100], "the Service to be told")
        assert http.get("/functions/tried").json()["traffic"] == {canary.baseline: 100}
        assert http.post("/functions/tried", json={"bad": True}).json() == 1
