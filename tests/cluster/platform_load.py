"""Calls of a platform's functions, and what its books must say of them afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
from deadlines import eventually
from live_platform import LivePlatform
from steady_load import Load

from dsfn.functions.event import Event
from dsfn.runtime.events.results import event_key
from dsfn.runtime.gateway.calls import idempotency_key

EVENT = "dev.dsfn.test.said"
CALL_S = 0.25
SETTLED_S = 90.0


def by_url(platform: LivePlatform) -> Callable[[str], httpx.Response]:
    """Calls of the function's own URL."""
    host = platform.host("rest")

    def ask(key: str) -> httpx.Response:
        return platform.ask_function(host, {"seconds": CALL_S}, key)

    return ask


def by_control(platform: LivePlatform) -> Callable[[str], httpx.Response]:
    """Calls of the control service's API."""

    def ask(key: str) -> httpx.Response:
        return platform.ask_control("/functions/rest", {"seconds": CALL_S}, key)

    return ask


def by_event(platform: LivePlatform) -> Callable[[str], None]:
    """Events through the Broker."""

    def ask(key: str) -> None:
        platform.send_event(EVENT, key)
        time.sleep(CALL_S)

    return ask


def check_calls(platform: LivePlatform, *loads: Load) -> None:
    """Each call that was answered is on the books as one success."""
    answered = [each for one in loads for each in one.answered]
    keys = {idempotency_key(each.key) for each in answered}
    prefixes = tuple(idempotency_key(one.name) for one in loads)

    def succeeded() -> list[str]:
        rows = platform.rows("rest")
        return [key for _, key, status in rows if status == "succeeded" and key in keys]

    eventually(lambda: len(succeeded()) >= len(keys), "the rows of the calls", SETTLED_S)
    found = succeeded()
    assert len(found) == len(set(found)) == len(keys)
    rows = platform.rows("rest")
    # A repeat that came to another pod is nobody's; who asked once is told of the row.
    ids = {id_ for id_, _, _ in rows}
    assert {each.id for each in answered if each.tries == 1} <= ids
    # And nothing that nobody asked for is anybody's to pay.
    assert {
        key for _, key, status in rows if key.startswith(prefixes) and status == "succeeded"
    } == keys


def check_events(platform: LivePlatform, events: Load) -> None:
    """Each event that was accepted has called the function once, or is a dead letter."""
    wanted = {
        event_key(Event(id=each.key, source="/tests", type=EVENT), "hear"): each.key
        for each in events.answered
    }

    def heard() -> list[str]:
        rows = platform.rows("hear")
        return [key for _, key, status in rows if status == "succeeded" and key in wanted]

    def dead() -> set[str]:
        letters = platform.dsfn("deadletters", "list", "--json").json()["deadletters"]
        shown = [
            platform.dsfn("deadletters", "show", each["id"], "--json").json() for each in letters
        ]
        return {each["event"]["id"] for each in shown if each["event"] is not None}

    def missing() -> set[str]:
        lost = {wanted[key] for key in set(wanted) - set(heard())}
        return lost - dead() if lost else lost

    eventually(lambda: not missing(), "the events to be heard", SETTLED_S)
    found = heard()
    assert len(found) == len(set(found))
