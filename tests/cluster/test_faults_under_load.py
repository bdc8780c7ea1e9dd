"""Parts of the platform are killed under load: no call fails whose caller asks again, nothing is
lost, nothing is doubled."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from math import ceil

import psycopg
import pytest
from deadlines import eventually
from live_platform import (
    ACTIVATOR,
    BROKER_FILTER,
    BROKER_INGRESS,
    WHOLE_WITHIN_S,
    LivePlatform,
    Pods,
)
from platform_load import by_control, by_event, by_url, check_calls, check_events
from steady_load import load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

BEFORE_S, AFTER_S = 4.0, 10.0
# Of what is measured, and not of what is promised.
WINDOW_S, FULL = 3.0, 0.9
FULL_WITHIN_S = 15.0


def test_with_a_third_of_the_pods_gone_all_is_as_before_in_seconds(whole: LivePlatform) -> None:
    with load(f"pods-{uuid.uuid4().hex[:6]}", by_url(whole), callers=4) as calls:
        time.sleep(2 * BEFORE_S)
        killed_s = time.monotonic()
        before = calls.rate(killed_s - BEFORE_S, killed_s)
        pods = whole.pods_of("rest")
        killed = whole.kill(pods, ceil(0.3 * whole.ready(pods)))
        assert len(killed.uids) == 2
        began_s = time.monotonic()

        def is_full() -> bool:
            now_s = time.monotonic()
            is_long = now_s - began_s >= WINDOW_S
            return is_long and calls.rate(now_s - WINDOW_S, now_s) >= FULL * before

        eventually(is_full, "full throughput", FULL_WITHIN_S + WINDOW_S)
    assert whole.are_replaced(killed)
    check_calls(whole, calls)


IsBack = Callable[[], bool]
"""Whether others are there for what was killed."""


def kill_pods(platform: LivePlatform, *kinds: Pods) -> IsBack:
    """All of them."""
    killed = [platform.kill(each) for each in kinds]
    return lambda: all(platform.are_replaced(each) for each in killed)


def kill_activator(platform: LivePlatform) -> IsBack:
    """That of all calls."""
    assert platform.goes_by_activator("rest")
    is_back = kill_pods(platform, ACTIVATOR)
    return lambda: is_back() and platform.goes_by_activator("rest")


def kill_leader(platform: LivePlatform) -> IsBack:
    """The control service's."""
    leader = platform.leader()
    assert leader
    killed = platform.kill(platform.controls, name=leader)
    return lambda: platform.are_replaced(killed) and platform.leader() not in ("", leader)


def kill_postgres(platform: LivePlatform) -> IsBack:
    """Every process of it; it is back soon after."""
    ledger = platform.dsfn.variables["DSFN_LEDGER"]
    # Whoever is connected hears of it.
    with psycopg.connect(ledger, autocommit=True) as connection:
        platform.server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(ledger, connect_timeout=2)
    time.sleep(3)
    platform.server.start()
    return lambda: bool(platform.rows("rest"))


FAULTS: dict[str, Callable[[LivePlatform], IsBack]] = {
    "agent": lambda platform: kill_pods(platform, platform.agents),
    "leader": kill_leader,
    "postgresql": kill_postgres,
    "activator": kill_activator,
    "broker": lambda platform: kill_pods(platform, BROKER_INGRESS, BROKER_FILTER),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_part_that_is_killed_under_load_loses_nothing_and_doubles_nothing(
    whole: LivePlatform, fault: str
) -> None:
    name = f"{fault}-{uuid.uuid4().hex[:6]}"
    with (
        load(f"{name}-url", by_url(whole), callers=2) as calls,
        load(f"{name}-control", by_control(whole), callers=1) as others,
        load(f"{name}-event", by_event(whole), callers=1) as events,
    ):
        time.sleep(BEFORE_S)
        is_back = FAULTS[fault](whole)
        time.sleep(AFTER_S)
        eventually(is_back, "what was killed to be replaced", WHOLE_WITHIN_S)
    assert calls.answered and others.answered and events.answered
    check_calls(whole, calls, others)
    check_events(whole, events)
