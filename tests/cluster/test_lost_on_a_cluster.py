"""A call under which its pod is killed is the platform's, whichever container goes first."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from deadlines import eventually
from live_cluster import GATEWAY
from live_platform import LivePlatform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RUNS_S = 8.0
KILLED_AFTER_S = 3.0
CALLS = 4
# Beyond the time after which the agent takes a pod for ended.
BOOKED_S = 60.0


def by_control(platform: LivePlatform, body: dict[str, float]) -> httpx.Response:
    return platform.ask_control("/functions/rest", body)


def by_its_url(platform: LivePlatform, body: dict[str, float]) -> httpx.Response:
    host = platform.host("rest")
    with httpx.Client(trust_env=False, timeout=60) as http:
        return http.post(GATEWAY or f"http://{host}", json=body, headers={"Host": host})


@pytest.mark.parametrize("ask", [by_control, by_its_url])
def test_nobody_pays_for_a_call_whose_pod_is_killed(
    whole: LivePlatform, ask: Callable[[LivePlatform, dict[str, float]], httpx.Response]
) -> None:
    before = {id_ for id_, _, _ in whole.rows("rest")}
    with ThreadPoolExecutor(CALLS) as callers:
        under_way = [callers.submit(ask, whole, {"seconds": RUNS_S}) for _ in range(CALLS)]
        time.sleep(KILLED_AFTER_S)
        whole.kill(whole.pods_of("rest"))
        answers = [each.result() for each in under_way]

    def statuses() -> list[str]:
        # Those by which the platform was found to be whole may come late, too.
        rows = [status for id_, _, status in whole.rows("rest") if id_ not in before]
        return [status for status in rows if status != "succeeded"]

    # One that waited before the pods, as these were new, went on to the next ones.
    lost = [each for each in answers if each.status_code != 200]
    assert lost
    eventually(lambda: len(statuses()) >= len(lost), "a row of each call that was lost", BOOKED_S)
    assert statuses() == ["platform"] * len(lost)
    for answer in lost:
        assert answer.status_code in ((503,) if ask is by_control else (502, 503)), answer.text
        if ask is by_control:
            assert answer.json()["type"].endswith("replica-lost"), answer.text


def test_a_caller_who_leaves_pays_for_what_ran(whole: LivePlatform) -> None:
    def cancelled() -> int:
        return [status for _, _, status in whole.rows("rest")].count("cancelled")

    before, host = cancelled(), whole.host("rest")
    with httpx.Client(trust_env=False, timeout=KILLED_AFTER_S) as http:
        url = GATEWAY or f"http://{host}"
        with pytest.raises(httpx.ReadTimeout):
            http.post(url, json={"seconds": RUNS_S}, headers={"Host": host})
    eventually(lambda: cancelled() == before + 1, "the row of the call", BOOKED_S)
