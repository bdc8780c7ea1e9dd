"""Large data go by reference: from a client's hand to the last function that reads them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from deadlines import eventually
from live_node import APPS, Document, LiveNode, StartNode
from s3_server import S3Server

MIB = 1 << 20
LARGE = os.urandom(MIB)
DIGEST = sha256(LARGE).hexdigest()
REF = f"blob:sha256:{DIGEST}"


@pytest.fixture(scope="module", autouse=True)
def deployed(node: LiveNode) -> Iterator[None]:
    node.deploy(APPS / "large.py")
    yield
    for name in ("double", "hear", "weigh"):
        assert node.http.delete(f"/functions/{name}").status_code == 204


def put(node: LiveNode, data: bytes, content_type: str = "video/mp4") -> None:
    answer = node.http.post("/blobs", content=data, headers={"Content-Type": content_type})
    assert answer.json() == {"ref": f"blob:sha256:{sha256(data).hexdigest()}", "bytes": len(data)}


def weighed(node: LiveNode, **reference: str) -> Document:
    """What `weigh` says of the large blob."""
    found: Document = node.value("weigh", file={"$ref": REF, **reference})
    assert found["digest"] == DIGEST
    return found


def blob_of(node: LiveNode, digest: str) -> Path:
    """Where a node keeps a blob."""
    return node.data / "blobs" / digest[:2] / digest


def test_a_reference_says_what_the_bytes_are_and_what_they_are_called(node: LiveNode) -> None:
    put(node, LARGE)
    assert weighed(node)["content_type"] == "video/mp4"
    found = weighed(node, content_type="video/x-mine", name="mine.mp4")
    assert (found["content_type"], found["name"]) == ("video/x-mine", "mine.mp4")


def test_large_data_of_events_pass_by_reference_and_are_kept_once(
    node: LiveNode, tmp_path: Path
) -> None:
    headers = {
        "Content-Type": "video/mp4",
        "ce-specversion": "1.0",
        "ce-type": "film.added",
        "ce-source": "/test",
        "ce-id": str(tmp_path),
    }
    answer = node.http.post("/events", content=LARGE, headers=headers)
    assert (answer.status_code, answer.json()["deliveries"]) == (202, 1)
    heard = tmp_path / "heard"
    eventually(heard.exists, "the result to be heard of")
    doubled = sha256(LARGE * 2).hexdigest()
    eventually(lambda: heard.read_text() != "", "all of it")
    assert heard.read_text() == f"{doubled} application/x-double blob:sha256:{doubled}"
    assert blob_of(node, DIGEST).read_bytes() == LARGE
    assert blob_of(node, doubled).stat().st_size == 2 * MIB
    assert node.http.post("/events", content=LARGE, headers=headers).json()["deliveries"] == 0


def test_a_damaged_blob_fails_its_own_call_by_name_and_no_other(node: LiveNode) -> None:
    data = os.urandom(MIB)
    digest = sha256(data).hexdigest()
    put(node, data)
    put(node, LARGE)
    pids = node.pids("weigh")
    blob_of(node, digest).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    answer = node.call("weigh", file={"$ref": f"blob:sha256:{digest}"})
    problem = answer.json()
    assert (answer.status_code, problem["blob"]) == (500, digest)
    assert problem["type"].endswith("/corrupt-blob")
    assert f"{digest} is damaged" in problem["detail"]
    assert node.http.get(f"/blobs/{digest}").status_code == 500
    assert weighed(node)["content_type"] == "video/mp4"
    assert node.pids("weigh") >= pids, "its replica stays"
    put(node, data)
    assert node.value("weigh", file={"$ref": f"blob:sha256:{digest}"})["digest"] == digest


def test_workers_get_what_only_the_bucket_has(
    s3: S3Server, credentials: None, start: StartNode
) -> None:
    bucket = s3.make_bucket()
    table = {"store": f"s3://{bucket}/blobs", "endpoint_url": s3.url, "region": "us-east-1"}
    node = start(libraries=(), blobs=table)
    node.deploy(APPS / "large.py")
    put(node, LARGE)
    shutil.rmtree(blob_of(node, DIGEST).parent)
    assert weighed(node)["content_type"] == "video/mp4"
    assert blob_of(node, DIGEST).read_bytes() == LARGE
    # A damaged copy fails one call, and the next one has the bucket's.
    blob_of(node, DIGEST).write_bytes(LARGE[:-1])
    assert node.call("weigh", file={"$ref": REF}).status_code == 500
    assert weighed(node)["content_type"] == "video/mp4"
    shutil.rmtree(blob_of(node, DIGEST).parent)
    assert node.http.get(f"/blobs/{DIGEST}").content == LARGE
    assert node.stop() == 0, node.log
