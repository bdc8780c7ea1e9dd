"""Usage of a pod's calls comes to the control service once, whatever lies between."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
from deadlines import eventually
from faulty_proxy import Fault, FaultyProxy, faulty_proxy
from gates import gate
from live_node import LiveNode
from live_pod import StartPod

from dsfn.billing.sqlite import connect
from dsfn.knative.control.door import Door
from dsfn.knative.control.passing import Passing
from dsfn.knative.handover import DOOR_PATIENCE_S
from dsfn.knative.manifests.function import BEYOND_TIMEOUT_S
from dsfn.knative.pod.usage import CONTROL_PATIENCE_S
from dsfn.runtime.cli.transport import ADMIN_TIMEOUT_S

REFUSED = Fault("refused")
LOST = Fault("lost")


@pytest.fixture
def proxy(node: LiveNode) -> Iterator[FaultyProxy]:
    port = httpx.URL(node.url).port
    assert port is not None
    with faulty_proxy(port) as proxy:
        yield proxy


def test_a_call_is_answered_once_its_row_is_accepted(
    node: LiveNode, start_pod: StartPod, proxy: FaultyProxy
) -> None:
    pod = start_pod("rest", control=proxy.url)
    pod.call(seconds=0)
    proxy.inject(REFUSED, "POST", "/usage", times=100)
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(pod.call, seconds=0, number=n) for n in range(8)]
        time.sleep(2)
        assert not any(each.done() for each in answers)
        proxy.heal()
        done = [each.result() for each in answers]
    assert [each.json() for each in done] == list(range(8))
    for each in done:
        assert node.row(each).held_us == int(each.headers["dsfn-held-us"])
    assert pod.stop() == 0, pod.log


def test_a_row_that_a_function_writes_to_its_pods_disk_is_not_posted(
    node: LiveNode, start_pod: StartPod
) -> None:
    pod = start_pod("rest")
    answer = pod.http.post("/", json={"seconds": 0}, headers={"Idempotency-Key": "own"})
    id_ = answer.headers["dsfn-invocation-id"]
    with closing(connect(pod.place / "dsfn" / "pod.db", "")) as database:
        ((digest, at_us, usage),) = database.execute(
            "SELECT digest, claimed_at_us, usage FROM answers"
        ).fetchall()
        assert isinstance(usage, str)
        for key, text in (
            ("changed", usage.replace(id_, "forged")),
            ("unsealed", usage[usage.index("{") :].replace(id_, "forged-too")),
        ):
            database.execute(
                "INSERT INTO answers (tenant, function, key, digest, claimed_at_us, done, usage,"
                " posted) VALUES ('other', 'shout', ?, ?, ?, 1, ?, 0)",
                (key, digest, at_us, text),
            )
        database.execute("UPDATE answers SET posted = 0")
    assert pod.stop() == 0
    assert pod.log.count("A usage row was written by somebody else") == 2
    assert node.rows_of("forged") == node.rows_of("forged-too") == []
    assert len(node.rows_of(id_)) == 1
    with closing(connect(pod.place / "dsfn" / "pod.db", "")) as database:
        posted = database.execute("SELECT key FROM answers WHERE posted = 1").fetchall()
    assert len(posted) == 1


def test_a_call_waits_for_the_next_leader_as_long_as_a_connection_to_it_does(
    node: LiveNode, start_pod: StartPod
) -> None:
    port = httpx.URL(node.url).port
    assert port is not None
    with (
        gate(port) as leader,
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1) as clients,
    ):
        leaders, url = [leader.url], f"http://127.0.0.1:{listener.getsockname()[1]}"
        door = Door(Passing(lambda: leaders[0] if leaders else None, url), listener)
        door.open()
        try:
            pod = start_pod("rest", control=url)
            pod.call(seconds=0)
            leaders.clear()
            leader.shut()
            asked = clients.submit(pod.call, seconds=0, number=3)
            with pytest.raises(TimeoutError):
                asked.result(DOOR_PATIENCE_S - 3)
            leader.open()
            leaders.append(leader.url)
            answer = asked.result()
            assert (answer.status_code, answer.json()) == (200, 3)
            assert len(node.rows_of(answer.headers["dsfn-invocation-id"])) == 1
            assert pod.stop() == 0, pod.log
        finally:
            door.close(0.0)


def test_what_waits_for_a_leader_ends_before_who_waits_for_it() -> None:
    assert DOOR_PATIENCE_S < ADMIN_TIMEOUT_S
    assert DOOR_PATIENCE_S < CONTROL_PATIENCE_S < BEYOND_TIMEOUT_S


def test_a_row_whose_acceptance_is_lost_is_on_the_books_once(
    node: LiveNode, start_pod: StartPod, proxy: FaultyProxy
) -> None:
    pod = start_pod("rest", control=proxy.url)
    pod.call(seconds=0)
    proxy.inject(LOST, "POST", "/usage", times=3)
    answer = pod.call(seconds=0, number=3)
    assert answer.json() == 3
    assert len(node.rows_of(answer.headers["dsfn-invocation-id"])) == 1
    assert len(proxy.requests("POST", "/usage")) >= 4


def test_a_call_whose_row_is_not_accepted_in_time_is_told_and_its_time_is_the_platforms(
    node: LiveNode, start_pod: StartPod, proxy: FaultyProxy
) -> None:
    pod = start_pod("rest", control=proxy.url)
    first = node.row(pod.call(seconds=0))
    proxy.inject(REFUSED, "POST", "/usage", times=10_000)
    began_s = time.monotonic()
    answer = pod.call(seconds=0.1)
    assert CONTROL_PATIENCE_S - 1 < time.monotonic() - began_s < CONTROL_PATIENCE_S + 20
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "could not be written down" in answer.json()["detail"]
    proxy.heal()
    assert pod.call(seconds=0).status_code == 200
    assert not node.rows_of(answer.headers["dsfn-invocation-id"])
    assert pod.stop() == 0, pod.log
    intervals = node.intervals(first.lease)
    held_us = sum(each.duration_us for each in intervals if each.kind == "held")
    others_us = sum(each.duration_us for each in intervals if each.kind != "held")
    calls_us = sum(row.held_us for row in node.rows("rest") if row.lease == first.lease)
    assert held_us == others_us + calls_us
    assert any(each.reason == "fault" and each.duration_us >= 100_000 for each in intervals)


def test_a_first_answer_whose_row_was_late_is_on_the_books_when_the_pod_ends(
    node: LiveNode, start_pod: StartPod, proxy: FaultyProxy
) -> None:
    pod = start_pod("shout", control=proxy.url)
    proxy.inject(REFUSED, "POST", "/usage", times=10_000)
    answer = pod.http.post("/", json={"text": "a"}, headers={"idempotency-key": "late"})
    assert answer.status_code == 503
    proxy.heal()
    assert pod.stop() == 0, pod.log
    (row,) = [row for row in node.rows("shout") if row.idempotency_key == "key:late"]
    assert row.status == "succeeded"
    assert any(each.closes for each in node.intervals(row.lease))


def test_a_pod_ends_though_nobody_takes_its_last_rows(
    start_pod: StartPod, proxy: FaultyProxy
) -> None:
    pod = start_pod("shout", control=proxy.url)
    assert pod.call(text="a").status_code == 200
    proxy.inject(REFUSED, "POST", "/usage", times=10_000)
    assert pod.stop() == 0
    assert "rows of devices are lost" in pod.log


def test_a_repeated_key_is_answered_and_billed_once_by_two_pods(
    node: LiveNode, start_pod: StartPod
) -> None:
    one, two = start_pod("shout"), start_pod("shout")
    for pod in (one, one, two):
        answer = pod.http.post("/", json={"text": "a"}, headers={"idempotency-key": "pods"})
        assert (answer.status_code, answer.text) == (200, "A")
    eventually(lambda: two.stop() == 0, "the pod to end")
    keys = [row.idempotency_key for row in node.rows("shout")]
    assert keys.count("key:pods") == 1
