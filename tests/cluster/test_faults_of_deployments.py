"""Deployments that cannot come to anything say why, and what served goes on serving."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from deadlines import eventually
from live_platform import LivePlatform
from steady_load import load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

READY_S = 30
PAUSE_S = 0.2
# One caller waits for little else than for the pause between two calls, whatever else the machine
# does.
GAP_S = 10.0
NO_IMAGE = "dev.local/nothing:v1"
REACHING = Path(__file__).parent / "apps" / "reaching.py"
APP = """
import dsfn


@dsfn.function({options})
def tried() -> int:
    return {number}
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tried") / "tried.py"


@pytest.fixture(scope="module")
def served(platform: LivePlatform, app: Path) -> LivePlatform:
    """A platform with a function that serves."""
    write(app, 1, "min_replicas=1")
    platform.deploy(app)
    assert platform.insisted("tried") == 1
    return platform


def write(app: Path, number: int, options: str = "") -> None:
    app.write_text(APP.format(number=number, options=options), encoding="utf-8")


def why(platform: LivePlatform, app: Path, within_s: float) -> str:
    """Why a deployment has failed, the revision before answering every call meanwhile."""
    host, answers = platform.host("tried"), []

    def ask(key: str) -> httpx.Response:
        time.sleep(PAUSE_S)
        answer = platform.ask_function(host, {}, key)
        answers.append(answer.text)
        return answer

    before = platform.answer("tried")
    with load(f"tried-{uuid.uuid4().hex[:6]}", ask, callers=1) as calls:
        began_s = time.monotonic()
        run = platform.dsfn("deploy", str(app))
        ended_s = time.monotonic()
    assert run.code == 1, run.out
    assert ended_s - began_s < within_s
    assert calls.longest_gap_s(began_s, ended_s) < GAP_S
    assert set(answers) == {json.dumps(before)}
    assert platform.answer("tried") == before
    return run.err.strip().splitlines()[-1]


@contextmanager
def wrong_secret(platform: LivePlatform) -> Iterator[None]:
    """Functions' pods are told another key of the store than it takes."""
    metadata = {"name": "dsfn-function", "namespace": platform.namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    found: Any = platform.objects.read(secret)
    name = "AWS_SECRET_ACCESS_KEY"
    platform.objects.change(secret, {"data": {name: base64.b64encode(b"wrong").decode()}})
    try:
        yield
    finally:
        platform.objects.change(secret, {"data": {name: found["data"][name]}})


def test_a_pod_that_ends_again_and_again_is_told_with_its_last_words(
    served: LivePlatform, app: Path
) -> None:
    write(app, 2)
    with wrong_secret(served):
        sentence = why(served, app, 180)
    assert "its container ends after its start (exit code 1" in sentence
    assert "it last printed: " in sentence


@contextmanager
def configured(platform: LivePlatform, text: str, image: str) -> Iterator[None]:
    """The control service with a configuration and an image of functions."""
    metadata = {"name": "dsfn-config", "namespace": platform.namespace}
    configuration = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    upgrade = ("platform", "upgrade", "--namespace", platform.namespace, "--timeout", "300")
    platform.objects.apply({**configuration, "data": {"config.toml": text}})
    try:
        run = platform.dsfn.given(DSFN_FUNCTION_IMAGE=image)(*upgrade)
        assert run.code == 0, run.err
        yield
    finally:
        platform.objects.delete(configuration)
        run = platform.dsfn(*upgrade)
    assert run.code == 0, run.err


def test_an_image_or_a_node_that_is_not_there_is_told(served: LivePlatform, app: Path) -> None:
    text = f"[limits]\nstart_timeout_s = {READY_S}\n"
    with configured(served, text, NO_IMAGE):
        write(app, 3)
        sentence = why(served, app, 120)
        assert f"the image {NO_IMAGE} cannot be pulled" in sentence
        write(app, 4, 'gpu=1, placement=dsfn.Placement(gpu_resource="gpus.example/none")')
        sentence = why(served, app, READY_S + 60)
        assert "no node takes its pod (" in sentence
    write(app, 5)
    served.deploy(app)
    assert eventually(lambda: served.answer("tried") == 5, "the new revision")


def test_a_setup_reaches_neither_keys_nor_tokens_nor_what_is_others(served: LivePlatform) -> None:
    # It is captured where it is deployed, beside all of these: a pod restores what it found.
    (deployed,) = served.deploy(REACHING)
    assert deployed["snapshot"] is not None, deployed
    assert served.insisted("reaching") == {"reached": [], "attempts": [8]}
    served.remove("reaching")
