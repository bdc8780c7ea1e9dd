"""What keeps a pod from starting is said in a sentence, and its exit code is 1."""

from __future__ import annotations

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deadlines import eventually
from live_node import LiveNode
from live_pod import TestStore, launch_pod, pod_variables
from ports import free_port

from dsfn.functions.errors import UsageError
from dsfn.knative.pod.settings import read_settings

DIGEST = "0" * 64
GIVEN = {
    "DSFN_STORE": "s3://bucket/prefix",
    "DSFN_REVISION": DIGEST,
    "DSFN_CONTROL": "http://control",
}


def last_words(place: Path, variables: dict[str, str], port: int | None = None) -> str:
    """The one line that a pod prints before it ends."""
    pod = launch_pod(place, variables, port=port, wait=False)
    try:
        assert pod.wait() == 1
    finally:
        pod.end()
    (line,) = pod.log.splitlines()
    return line


def test_a_port_that_is_taken(tmp_path: Path, directory: TestStore) -> None:
    with socket.create_server(("0.0.0.0", free_port())) as other:
        port = other.getsockname()[1]
        words = last_words(tmp_path, pod_variables(directory, DIGEST, "http://127.0.0.1:1"), port)
    assert words == f"The pod cannot listen on port {port}: address already in use."


def test_a_port_that_is_none(tmp_path: Path) -> None:
    words = last_words(tmp_path, {"PORT": "http"})
    assert words == "PORT is 'http', and not a port from 0 to 65535."


def test_a_library_that_no_worker_is_born_with(tmp_path: Path) -> None:
    words = last_words(tmp_path, {"DSFN_LIBRARIES": "torch,os"})
    assert words == "DSFN_LIBRARIES names 'os', which no worker is born with."


def test_a_revision_that_is_not_there(tmp_path: Path, directory: TestStore) -> None:
    words = last_words(tmp_path, pod_variables(directory, DIGEST, "http://127.0.0.1:1"))
    assert words.startswith(f"Revision {DIGEST} cannot be served: The store has no revisions/")


def test_a_store_that_is_not_mounted(tmp_path: Path) -> None:
    store = TestStore(f"file://{tmp_path}/none")
    variables = pod_variables(store, DIGEST, "http://127.0.0.1:1", proved=False)
    words = last_words(tmp_path, variables)
    assert words == f"The store {tmp_path}/none cannot be used: No such file or directory."


def test_an_s3_server_that_is_away(tmp_path: Path) -> None:
    variables = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_REGION": "us-east-1"}
    store = TestStore(
        "s3://bucket", {**variables, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    )
    variables = pod_variables(store, DIGEST, "http://127.0.0.1:1", proved=False)
    assert last_words(tmp_path, variables).startswith("The store s3://bucket/ cannot be used")


def test_callers_of_what_is_proved_wait_while_the_store_is_away(
    node: LiveNode, tmp_path: Path
) -> None:
    here, away = tmp_path / "store", tmp_path / "away"
    here.mkdir()
    store = TestStore(f"file://{here}")
    digest = store.publish(node, "shout").digest
    here.rename(away)
    pod = launch_pod(tmp_path, pod_variables(store, digest, node.url), wait=False)
    try:
        eventually(lambda: "cannot be used: No such file" in pod.log, "the pod to ask the store")
        with ThreadPoolExecutor(1) as beside:
            answer = beside.submit(pod.call, text="hey")
            away.rename(here)
            assert answer.result().text == "HEY"
        assert pod.stop() == 0
    finally:
        pod.end()


def test_a_pod_that_waits_for_its_store_ends_when_it_is_told_to(tmp_path: Path) -> None:
    store = TestStore(f"file://{tmp_path}/none")
    pod = launch_pod(tmp_path, pod_variables(store, DIGEST, "http://127.0.0.1:1"), wait=False)
    try:
        eventually(lambda: "cannot be used" in pod.log, "the pod to ask the store")
        assert pod.stop() == 0
    finally:
        pod.end()


def test_a_pod_without_its_revision_is_not_ready_where_that_is_to_be_proved(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        given = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        store = TestStore("s3://bucket", given)
        variables = pod_variables(store, DIGEST, "http://127.0.0.1:1", proved=False)
        pod = launch_pod(tmp_path, variables, wait=False)
        try:
            silent.settimeout(30)
            asked, _ = silent.accept()
            with asked, pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", pod.port))
        finally:
            pod.end()


def test_a_document_that_was_changed(node: LiveNode, tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    store = TestStore(f"file://{root}")
    digest = store.publish(node, "shout").digest
    path = root / "revisions" / f"{digest}.json"
    path.write_bytes(path.read_bytes().replace(b"shout", b"shoot"))
    words = last_words(tmp_path, pod_variables(store, digest, "http://127.0.0.1:1"))
    assert words == f"The store has another document in the place of revision {digest}."


def test_a_source_that_was_changed(node: LiveNode, tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    store = TestStore(f"file://{root}")
    digest = store.publish(node, "shout").digest
    (bundle,) = (root / "bundles").iterdir()
    bundle.write_bytes(bundle.read_bytes()[:-20])
    words = last_words(tmp_path, pod_variables(store, digest, "http://127.0.0.1:1"))
    assert words.startswith(f"The source of revision {digest} is damaged:")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"DSFN_REVISION": ""}, "DSFN_REVISION is not set"),
        ({"DSFN_REVISION": "latest"}, "not the digest of a revision"),
        ({"DSFN_STORE": "ftp://a"}, "DSFN_STORE is 'ftp://a', and neither file:///DIRECTORY nor"),
        ({"AWS_ENDPOINT_URL_S3": "s3:9000"}, "AWS_ENDPOINT_URL_S3 is 's3:9000', and not an http"),
        ({"DSFN_CONTROL": "control"}, "not an http(s) URL"),
        ({"DSFN_GPUS": "cuda:0,"}, "DSFN_GPUS is 'cuda:0,', and names a device twice or none"),
        ({"DSFN_GPUS": "cuda:0,cuda:0"}, "names a device twice or none"),
        ({"K_SINK": "broker"}, "not an http(s) URL"),
        ({"DSFN_PROXY_PORT": "http"}, "DSFN_PROXY_PORT is 'http', and not a port"),
        ({"K_CE_OVERRIDES": "{"}, "no overrides"),
        ({"K_CE_OVERRIDES": '{"extensions": {"Shop!": "a"}}'}, "no overrides"),
    ],
)
def test_variables_that_make_no_sense(changed: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_settings({**GIVEN, **changed})
    assert words in raised.value.message


def test_what_workers_are_born_with_is_in_the_document_too(
    node: LiveNode, tmp_path: Path, directory: TestStore
) -> None:
    published = directory.publish(node, "weights")
    assert published.libraries == ("pydantic", "torch", "numpy", "safetensors")
    pod = launch_pod(tmp_path, pod_variables(directory, published.digest, node.url))
    try:
        assert pod.call().json()["restored"]
    finally:
        pod.end()


def test_user_code_does_not_see_the_platforms_key() -> None:
    environ = {**GIVEN, "DSFN_API_KEY": "secret"}
    assert read_settings(environ).api_key == "secret"
    assert "DSFN_API_KEY" not in environ


def test_a_pods_front_loads_none_of_what_its_worker_is_for() -> None:
    program = (
        "import sys, dsfn.knative.pod.program, dsfn.knative.pod.assembly, dsfn.knative.pod.server;"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert done.returncode == 0, done.stderr
    large = {"torch", "numpy", "PIL", "soundfile", "safetensors", "pydantic", "boto3", "httpx"}
    assert not loaded & large
    # Nor what defines functions, codes slabs and exposes metrics.
    later = {"dsfn.functions.function", "dsfn.functions.workflow", "prometheus_client"}
    assert not loaded & {*later, "dsfn.snapshots.owner.control", "urllib.request"}
    # Nor what answers without a call, reads files that a pod does not have, and looks at snapshots.
    assert not loaded & {"starlette.responses", "tomllib", "importlib.metadata"}
