"""A canary on a real cluster gets its share of calls, and ends by what these come to."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deadlines import eventually
from live_platform import LivePlatform, live_platform
from postgres_server import PostgresServer
from s3_server import S3Server

from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.function import SERVING

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

APP = """
import dsfn


@dsfn.function(min_replicas=1, max_replicas=1, concurrency=4, memory="256MiB")
def answer() -> int:
    {body}
"""
GOOD, BETTER, BAD = "return 1", "return 2", "raise ValueError('no answer')"
TERMS = ("--canary", "40", "--promote-after", "5s", "--max-error-rate", "1%")
ENDED_WITHIN_S = 90.0
CALLERS = 2


@pytest.fixture
def canaries(
    objects: Objects, database: str, s3: S3Server, any_postgres: PostgresServer, tmp_path: Path
) -> Iterator[LivePlatform]:
    """A platform of its own."""
    with live_platform(objects, database, s3, any_postgres, tmp_path) as platform:
        yield platform


def deploy(platform: LivePlatform, place: Path, body: str, *terms: str) -> None:
    (place / "app.py").write_text(APP.format(body=body), encoding="utf-8")
    run = platform.dsfn("deploy", str(place / "app.py"), *terms)
    assert run.code == 0, run.err


def canary(platform: LivePlatform) -> str:
    """How it ended, or that it has not."""
    return str(platform.dsfn("describe", "answer", "--json").json()["canary"]["state"])


def shares(platform: LivePlatform) -> list[int]:
    """What the ingress was told, by revision."""
    metadata = {"name": "answer", "namespace": platform.namespace}
    found = platform.objects.read({"apiVersion": SERVING, "kind": "Service", "metadata": metadata})
    assert found is not None
    return sorted(each["percent"] for each in found["status"]["traffic"] if each.get("percent"))


@contextmanager
def called(platform: LivePlatform) -> Iterator[list[Any]]:
    """Has callers ask the function at its own URL meanwhile; their answers: a value, or a status
    that is no success."""
    answers: list[Any] = []
    host, over = platform.host("answer"), threading.Event()

    def call() -> None:
        while not over.is_set():
            answer = platform.ask_function(host, {}, uuid.uuid4().hex)
            answers.append(answer.json() if answer.status_code == 200 else answer.status_code)
            time.sleep(0.05)

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for each in threads:
        each.start()
    try:
        yield answers
    finally:
        over.set()
        for each in threads:
            each.join()


def test_a_canary_is_promoted_or_taken_back_by_what_its_calls_come_to(
    canaries: LivePlatform, tmp_path: Path
) -> None:
    deploy(canaries, tmp_path, GOOD)
    with called(canaries) as answers:
        deploy(canaries, tmp_path, BETTER, *TERMS)
        assert shares(canaries) == [40, 60]
        eventually(lambda: canary(canaries) == "promoted", "the promotion", ENDED_WITHIN_S)
        eventually(lambda: shares(canaries) == [100], "the ingress to be told", ENDED_WITHIN_S)
        promoted = len(answers)
        eventually(lambda: len(answers) > promoted + 2 * CALLERS, "more answers")
    assert set(answers) == {1, 2}
    assert set(answers[-CALLERS:]) == {2}
    with called(canaries) as answers:
        deploy(canaries, tmp_path, BAD, *TERMS)
        eventually(lambda: canary(canaries) == "rolled back", "the roll-back", ENDED_WITHIN_S)
        eventually(lambda: shares(canaries) == [100], "the ingress to be told", ENDED_WITHIN_S)
        taken_back = len(answers)
        eventually(lambda: len(answers) > taken_back + 2 * CALLERS, "more answers")
    assert 2 in answers
    assert set(answers) - {2} <= {500, 502}
    assert len(set(answers)) == 2
    assert set(answers[-CALLERS:]) == {2}
