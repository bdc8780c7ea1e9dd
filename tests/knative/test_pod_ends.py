"""A pod that is told to end loses nothing, whatever comes meanwhile."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from live_node import LiveNode
from live_pod import LivePod, StartPod

CLIENTS = 8
# queue-proxy goes on for a while with what was on its way.
GOES_ON_S = 2.0


class Load:
    """Clients that call again and again, each over a connection of its own or a new one."""

    def __init__(self, pod: LivePod) -> None:
        self.pod = pod
        self.over = threading.Event()
        self.faults: list[str] = []
        self.ids: list[str] = []

    def run(self, client: int) -> None:
        number = 0
        with httpx.Client(base_url=self.pod.http.base_url, timeout=60, trust_env=False) as kept:
            while not self.over.is_set():
                number += 1
                self._call(kept if client % 2 else None, 1000 * client + number)

    def _call(self, kept: httpx.Client | None, number: int) -> None:
        body = {"seconds": 0.05, "number": number}
        try:
            if kept is not None:
                answer = kept.post("/", json=body)
            else:
                answer = httpx.post(self.pod.http.base_url, json=body, timeout=60, trust_env=False)
        except httpx.HTTPError as error:
            self.faults.append(repr(error))
            return
        if answer.status_code == 200 and answer.json() == number:
            self.ids.append(answer.headers["dsfn-invocation-id"])
        else:
            self.faults.append(answer.text)


def test_sigterm_under_load_loses_no_request_and_no_row(
    node: LiveNode, start_pod: StartPod
) -> None:
    pod = start_pod("rest")
    assert pod.call(seconds=0).status_code == 200
    load = Load(pod)
    with ThreadPoolExecutor(CLIENTS) as clients:
        running = [clients.submit(load.run, number) for number in range(CLIENTS)]
        time.sleep(1)
        pod.process.send_signal(signal.SIGTERM)
        time.sleep(GOES_ON_S)
        assert pod.process.poll() is None
        load.over.set()
        for each in running:
            each.result()
    assert pod.wait() == 0, pod.log
    assert load.faults == []
    assert len(load.ids) > CLIENTS
    rows = [row.invocation_id for row in node.rows("rest")]
    assert all(rows.count(each) == 1 for each in load.ids)


def test_a_long_call_ends_before_the_pod_does(start_pod: StartPod) -> None:
    pod = start_pod("rest")
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(pod.call, seconds=3, number=7)
        time.sleep(1)
        pod.process.send_signal(signal.SIGTERM)
        assert pod.http.get("/health/liveness").status_code == 200
        assert answer.result().json() == 7
    assert pod.wait() == 0, pod.log


def test_probes_answer_while_a_call_runs(start_pod: StartPod) -> None:
    pod = start_pod("rest")
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(pod.call, seconds=2)
        time.sleep(0.5)
        for path in ("/health/liveness", "/health/readiness"):
            assert httpx.get(f"{pod.http.base_url}{path}", timeout=1, trust_env=False).text == "ok"
        assert answer.result().status_code == 200


def test_all_time_of_a_pod_that_has_ended_is_on_the_books(
    node: LiveNode, start_pod: StartPod
) -> None:
    pod = start_pod("rest")
    row = node.row(pod.call(seconds=0.1))
    assert pod.stop() == 0, pod.log
    rows = node.intervals(row.lease)
    assert [each.closes for each in rows if each.closes] == [True]
    held_us = sum(each.duration_us for each in rows if each.kind == "held")
    others_us = sum(each.duration_us for each in rows if each.kind != "held")
    assert held_us == others_us + row.held_us
