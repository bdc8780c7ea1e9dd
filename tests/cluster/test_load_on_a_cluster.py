"""No call fails while pods come and go: the load tests of k6, from no pod at all."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from live_cluster import GATEWAY, HELLO
from s3_server import HOW_TO_GET_IT

from benchmarks.knative.cold import wait_for_zero
from benchmarks.knative.place import Images, Place, place

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

LOAD = Path(__file__).parents[1] / "load"


@pytest.fixture(scope="module")
def there(require: Any) -> Iterator[Place]:
    """A control service and an object store on this machine, functions on the cluster."""
    require("versitygw", HOW_TO_GET_IT)
    image, host = os.environ["DSFN_FUNCTION_IMAGE"], os.environ["DSFN_TEST_HOST"]
    with place(Images(image, HELLO, image), host, GATEWAY) as made:
        yield made


@pytest.fixture(scope="module")
def greet(there: Place) -> Any:
    """The function's Service."""
    return there.deploy(LOAD / "app.py")


@pytest.mark.parametrize("script", ["ramp", "spike", "soak"])
def test_no_call_fails(require: Any, there: Place, greet: Any, script: str, tmp_path: Path) -> None:
    require("k6", "put k6 (https://k6.io) on PATH")
    host = urlsplit(greet["status"]["url"]).netloc
    summary = tmp_path / "summary.json"
    wait_for_zero(there)
    variables = {"URL": GATEWAY or f"http://{host}", "HOST": host, "MINUTES": "2"}
    given = [f"--env={name}={value}" for name, value in variables.items()]
    command = ("k6", "run", "--quiet", f"--summary-export={summary}", *given)
    done = subprocess.run((*command, str(LOAD / f"{script}.js")), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads(summary.read_text(encoding="utf-8"))["metrics"]
    assert metrics["http_reqs"]["count"] > 0
    assert metrics["http_req_failed"]["value"] == 0
