"""What the platform stands on goes away and comes back: the API server, the object store, a node's
disk. Functions that run go on."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from deadlines import eventually
from live_platform import LivePlatform
from platform_load import by_url, check_calls
from steady_load import Load, load

from dsfn.functions.errors import ClusterUnreachable
from dsfn.knative.cluster.connection import open_cluster
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.platform import namespace_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

AWAY_S = 60.0
# Two callers wait a quarter of a second for an answer, whatever else the machine does.
GAP_S = 10.0
# Kubernetes may take a node that it has not heard of for one that is gone, until it hears of it.
BACK_WITHIN_S = 180.0
EXEC_S = 60
API_S = 5.0
SLAB = "slab-cpu.safetensors"
WEIGHTS = Path(__file__).parent / "apps" / "weights.py"
TOTAL = float(1 << 20)


def calls_of(platform: LivePlatform, name: str) -> Any:
    return load(f"{name}-{uuid.uuid4().hex[:6]}", by_url(platform), callers=2)


def goes_on(calls: Load, for_s: float) -> bool:
    """Whether calls are answered through all of a time."""
    began_s = time.monotonic()
    time.sleep(for_s)
    return calls.longest_gap_s(began_s, time.monotonic()) < GAP_S


def api_answers(platform: LivePlatform) -> bool:
    """Whether the API server does, to whoever connects anew."""
    cluster = open_cluster(answer_s=API_S, tries_again=False)
    try:
        Objects(cluster).read(namespace_of(platform.namespace))
    except ClusterUnreachable:
        return False
    return True


def test_functions_go_on_while_the_api_server_is_away(whole: LivePlatform) -> None:
    stop, start = os.environ.get("DSFN_TEST_STOP_API"), os.environ.get("DSFN_TEST_START_API")
    if not stop or not start:
        pytest.skip("DSFN_TEST_STOP_API and DSFN_TEST_START_API say how the API server is stopped")
    assert api_answers(whole)
    with calls_of(whole, "api") as calls:
        subprocess.run(shlex.split(stop), check=True)
        try:
            assert not api_answers(whole)
            assert goes_on(calls, AWAY_S)
            assert not api_answers(whole)
        finally:
            subprocess.run(shlex.split(start), check=True)
        eventually(whole.is_whole, "the platform to be whole again", BACK_WITHIN_S)
    check_calls(whole, calls)
    assert whole.deploy(WEIGHTS)[0]["url"]


def test_functions_go_on_while_the_object_store_is_away_and_a_deploy_says_so(
    whole: LivePlatform, tmp_path: Path
) -> None:
    app = tmp_path / "changed.py"
    app.write_text(
        "import dsfn\n\n\n@dsfn.function\ndef changed() -> int:\n    return 1\n", encoding="utf-8"
    )
    whole.deploy(app)
    app.write_text(app.read_text(encoding="utf-8").replace("1\n", "2\n"), encoding="utf-8")
    with calls_of(whole, "store") as calls:
        whole.around.store.shut()
        run = whole.dsfn("deploy", str(app))
        assert run.code == 1
        last = run.err.strip().splitlines()[-1]
        assert "store" in last and last.endswith(".")
        assert goes_on(calls, 5)
        whole.around.store.open()
    check_calls(whole, calls)
    whole.deploy(app)
    assert eventually(lambda: whole.answer("changed") == 2, "the new revision")
    whole.remove("changed")


def test_a_nodes_snapshot_that_is_damaged_gives_no_wrong_answer_and_is_fetched_again(
    whole: LivePlatform,
) -> None:
    (deployed,) = whole.deploy(WEIGHTS)
    path = f"/var/lib/dsfn/snapshots/{deployed['snapshot']['digest']}/{SLAB}"
    eventually(lambda: whole.answer("weights") == TOTAL, "the function")
    before = end_of(whole, path)
    damage = (
        "import os;"
        f"os.chmod({path!r}, 0o644);"
        f"file = open({path!r}, 'r+b');"
        "file.seek(-4096, 2);"
        "file.write(b'\\x47' * 16)"
    )
    in_agent(whole, damage)
    assert end_of(whole, path) != before
    for _ in range(3):
        assert whole.insisted("weights") == TOTAL
    whole.kill(whole.pods_of("weights"))
    assert whole.insisted("weights") == TOTAL
    assert end_of(whole, path) == before
    whole.remove("weights")


def end_of(platform: LivePlatform, path: str) -> str:
    """The digest of the end of a file on the agent's disk."""
    script = (
        "import hashlib;"
        f"file = open({path!r}, 'rb');"
        "file.seek(-4096, 2);"
        "print(hashlib.sha256(file.read()).hexdigest())"
    )
    return in_agent(platform, script)


def in_agent(platform: LivePlatform, script: str) -> str:
    """What a script of Python prints that runs in an agent's container."""
    from kubernetes.client import ApiClient, CoreV1Api
    from kubernetes.stream import stream

    (pod,) = platform.pods(platform.agents)
    metadata = pod["metadata"]
    configuration = platform.objects.cluster._api.configuration
    core = CoreV1Api(ApiClient(configuration))
    running = stream(
        core.connect_get_namespaced_pod_exec,
        metadata["name"],
        metadata["namespace"],
        command=["python", "-c", script],
        stderr=True,
        stdin=False,
        stdout=True,
        tty=False,
        _preload_content=False,
    )
    try:
        running.run_forever(timeout=EXEC_S)
        # Reading all of it takes the exit code along.
        code, printed = running.returncode, str(running.read_all())
        assert code == 0, printed
    finally:
        # What the server has closed the library leaves open here.
        running.sock.shutdown()
    return printed.strip()
