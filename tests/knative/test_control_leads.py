"""Two replicas of the control service: one leads, whichever of them is asked, and nothing is lost
when it goes."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from as_in_pods import seen_of
from deadlines import eventually
from live_control import LiveControl, Replica, live_control, running_platform
from live_node import DeployFailed
from live_pod import s3_store
from postgres_server import PostgresServer
from s3_server import S3Server

from dsfn.knative.control.leadership import GIVE_UP_S
from dsfn.knative.control.lease import LEASE_S

BOTH = Path(__file__).parent / "apps" / "both.py"
TEXT = {"content-type": "text/plain"}
CALLERS, CALLS, DEPLOYMENTS = 4, 6, 4
# Alone in its file: each function that is deployed is a pod.
SHOUT = """\
import dsfn
from dsfn import Text


@dsfn.function
def shout(text: Text) -> Text:
    return Text("ON{number}" if text == "on" else text.upper())
"""
# A leader's Lease runs out, another starts.
ANSWERED_WITHIN_S = 120.0


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
            platform.deploy(http, BOTH)
        yield platform


@pytest.fixture
def both(platform: LiveControl) -> LiveControl:
    """That, both replicas as they should be, whatever a test before has done to them."""
    for each in platform.replicas:
        each.to_api.open()
        each.to_postgres.open()
        each.start()
    platform.leader()
    return platform


def changed(place: Path, number: int) -> Path:
    """Another version of `shout`."""
    folder = place / f"version-{number}"
    folder.mkdir()
    path = folder / BOTH.name
    path.write_text(SHOUT.format(number=number), encoding="utf-8")
    return path


def insisted(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer of a client that asks again while nobody answers it."""
    deadline_s = time.monotonic() + ANSWERED_WITHIN_S
    while True:
        with suppress(httpx.TransportError):
            answer = ask()
            if answer.status_code < 500:
                return answer
            assert answer.headers["content-type"] == "application/problem+json", answer.text
            assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() < deadline_s, "nobody answers"
        time.sleep(0.2)


def has_ended(replica: Replica) -> bool:
    assert replica.process is not None
    return replica.process.poll() == 1


def test_nobody_looks_into_a_replica(both: LiveControl) -> None:
    for each in both.replicas:
        assert each.process is not None
        assert seen_of(each.process.pid) == []


def test_whoever_is_asked_the_leader_answers(both: LiveControl) -> None:
    leader, before = both.leader(), len(both.rows("measure"))
    with both.client(both.other(leader).url) as http:
        deployed = both.deploy(http, BOTH)
        assert deployed["shout"]["url"] == "http://shout.functions.example.com"
        answer = http.post("/functions/measure", json={"text": "four"})
        assert (answer.status_code, answer.json()) == (200, 4)
        assert http.post("/functions/count-up", json={"to": 3}).text.count("data:") == 4
        assert http.get("/functions", headers={"authorization": "Bearer x"}).status_code == 401
    with both.client(leader.url) as http:
        assert http.get("/functions/measure").json()["name"] == "measure"
    assert len(both.rows("measure")) == before + 1


def test_without_a_leader_a_replica_is_ready_and_who_asks_waits_for_one(
    s3: S3Server, database: str, tmp_path: Path, require: Callable[[str, str], None]
) -> None:
    require("kubernetes", "pip install 'dsfn[knative]'")
    with live_control(tmp_path / "control", s3_store(s3), database) as control:
        first, _ = control.replicas
        first.to_postgres.shut()
        first.start()
        with control.client(first.url) as http, ThreadPoolExecutor(1) as clients:
            asked = clients.submit(http.post, "/functions/measure", content=b"x" * (1 << 20))
            time.sleep(1)
            assert not asked.done()
            first.to_postgres.open()
            assert (asked.result().status_code, asked.result().json()["detail"]) == (
                404,
                "There is no function 'measure'.",
            )


def test_a_leader_that_is_killed_in_the_middle_loses_nothing_and_does_nothing_twice(
    both: LiveControl, tmp_path: Path
) -> None:
    first = both.leader()
    killed = threading.Event()

    def call(number: int) -> dict[str, Any]:
        if number == CALLERS * CALLS // 3 and not killed.is_set():
            killed.set()
            first.kill()
        with both.client() as http:
            headers = {"idempotency-key": f"call-{number}"}
            arguments = {"text": "x" * number}
            answer = insisted(
                lambda: http.post("/functions/measure", json=arguments, headers=headers)
            )
            assert (answer.status_code, answer.json()) == (200, number)
            run = insisted(
                lambda: http.post("/workflows/loudness", json=arguments, headers=headers)
            )
            assert (run.status_code, run.json()) == (200, number)
        return {"call": answer.headers["dsfn-invocation-id"], "run": run.headers["dsfn-run-id"]}

    def deploy() -> list[int]:
        with both.client() as http:
            return [
                deploy_until_it_is(both, http, tmp_path, number) for number in range(DEPLOYMENTS)
            ]

    with ThreadPoolExecutor(CALLERS + 1) as threads:
        deployments = threads.submit(deploy)
        told = list(threads.map(call, range(CALLERS * CALLS)))
        assert deployments.result() == list(range(DEPLOYMENTS))
    second = both.leader()
    assert second is both.other(first)

    with both.client() as http:
        assert (
            http.post("/functions/shout", content="on", headers=TEXT).text == f"ON{DEPLOYMENTS - 1}"
        )
        for number, before in enumerate(told):
            headers = {"idempotency-key": f"call-{number}"}
            again = http.post("/functions/measure", json={"text": "x" * number}, headers=headers)
            assert again.headers["dsfn-invocation-id"] == before["call"]
            assert http.get(f"/runs/{before['run']}").json()["state"] == "succeeded"
        runs = http.get("/runs", params={"limit": 1000}).json()["runs"]
    assert len(runs) == len(told)
    assert "not what was posted" not in second.log
    rows = [row for row in both.rows("measure") if row["status"] == "succeeded"]
    billed = [row["idempotency_key"] for row in rows if row["idempotency_key"]]
    assert len(billed) == len(set(billed)) == 2 * len(told)


def deploy_until_it_is(control: LiveControl, http: httpx.Client, place: Path, number: int) -> int:
    path, deadline_s = changed(place, number), time.monotonic() + ANSWERED_WITHIN_S
    while time.monotonic() < deadline_s:
        with suppress(httpx.HTTPError, DeployFailed, IndexError):
            control.deploy(http, path)
            return number
        time.sleep(0.5)
    raise AssertionError("it was never deployed")


def test_what_was_on_the_leaders_disk_is_found_again(both: LiveControl) -> None:
    first = both.leader()
    with both.client() as http:
        model = both.deploy(http, BOTH.with_name("model.py"))["model"]
        put = http.post("/blobs", content=b"quiet" * 50_000, headers=TEXT).json()
        kept = {"idempotency-key": "long"}
        arguments = {"word": "hey", "times": 100_000}
        long = http.post("/functions/repeat", json=arguments, headers=kept).text
        path = f"/snapshots/{model['snapshot']['digest']}"
        eventually(lambda: "store" in http.get(path).json()["tiers"], "the snapshot to be pushed")
    first.kill()
    shutil.rmtree(first.place / "data")
    first.start()
    second = both.leader()
    with both.client() as http:
        again = both.deploy(http, BOTH.with_name("model.py"))["model"]
        assert (again["created"], again["snapshot"]) == (False, model["snapshot"])
        assert http.post("/functions/model", json={}).json()["restored"]
        answer = http.post("/functions/shout", json={"text": {"$ref": put["ref"]}})
        assert answer.text == "QUIET" * 50_000
        assert http.post("/functions/repeat", json=arguments, headers=kept).text == long
    assert second.stop() == 0, second.log


def test_a_leader_whose_container_is_started_again_leads_on(both: LiveControl) -> None:
    first = both.leader()
    # Where starting takes longer than the Lease, the other would have it.
    both.other(first).to_api.shut()
    first.kill()
    before = both.lease()["metadata"]["resourceVersion"]
    first.start()
    began_s = time.monotonic()
    eventually(lambda: both.lease()["metadata"]["resourceVersion"] != before, "it to be renewed")
    assert time.monotonic() - began_s < LEASE_S - 3, "it does not wait until it runs out"
    assert both.leader() is first


def test_a_leader_that_the_api_server_does_not_hear_ends_before_another_leads(
    both: LiveControl,
) -> None:
    first = both.leader()
    second = both.other(first)
    first.to_api.shut()
    eventually(lambda: has_ended(first), "the leader to end", GIVE_UP_S + 10)
    assert "The Lease could not be renewed." in first.log
    assert both.holder() == first.name
    assert both.leader() is second


def test_a_leader_that_postgresql_does_not_hear_makes_room_for_another(
    both: LiveControl,
) -> None:
    first = both.leader()
    first.to_postgres.shut()
    with both.client(first.url) as http:
        answer = http.post(
            "/functions/measure", json={"text": "a"}, headers={"idempotency-key": "a"}
        )
        assert answer.status_code == 503
    eventually(lambda: has_ended(first), "the leader to end", 90)
    assert both.leader() is both.other(first)
    with both.client() as http:
        assert http.post("/functions/measure", json={"text": "four"}).json() == 4


def test_a_leader_that_was_asleep_ends_when_it_wakes_up(both: LiveControl) -> None:
    first = both.leader()
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    second = both.leader_after(first)
    with both.client(second.url) as http:
        assert http.post("/functions/measure", json={"text": "four"}).json() == 4
    first.process.send_signal(signal.SIGCONT)
    eventually(lambda: has_ended(first), "the leader to end")
    with both.client() as http:
        assert http.post("/functions/measure", json={"text": "four"}).json() == 4
