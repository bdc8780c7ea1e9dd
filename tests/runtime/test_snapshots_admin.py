"""The admin API of snapshots, without a node around it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from node_tiers import make_tiers
from revisions import make_revision
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from dsfn.billing.sqlite import connect
from dsfn.functions.errors import DsfnError, UsageError
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.config import Settings, SnapshotSettings
from dsfn.runtime.gateway import snapshots
from dsfn.runtime.gateway.snapshot_documents import row_document
from dsfn.runtime.model import Revision, SnapshotRef
from dsfn.runtime.problems import problem_response
from dsfn.runtime.registry import Registry
from dsfn.runtime.tiers.catalogue import Catalogue, Row
from dsfn.runtime.tiers.opening import open_store
from dsfn.runtime.tiers.records import Record
from dsfn.runtime.timelines import Timelines
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import MANIFEST_FILE
from dsfn.snapshots.shared import SharedDirectory


class Tried:
    """A pipeline whose trial restores come to what a test says."""

    reason: str | None = None

    async def try_restore(self, revision: Revision) -> str | None:
        return self.reason


@pytest.fixture
def services(tmp_path: Path) -> Iterator[SimpleNamespace]:
    connection = connect(tmp_path / "node.db", "")
    registry = Registry(connection, SystemClock())
    tiers = make_tiers(tmp_path, connection, registry)
    yield SimpleNamespace(
        settings=Settings(tmp_path),
        registry=registry,
        tiers=tiers,
        catalogue=Catalogue(tiers, registry),
        pipeline=Tried(),
        timelines=Timelines(),
    )
    connection.close()


@pytest.fixture
def client(services: SimpleNamespace) -> TestClient:
    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, DsfnError)
        return problem_response(error)

    app = Starlette(routes=snapshots.ROUTES, exception_handlers={DsfnError: problem})
    app.state.services = services
    return TestClient(app)


@pytest.fixture
def directory(services: SimpleNamespace) -> Path:
    """A published snapshot, which a revision of the function `weigh` refers to."""
    files = services.tiers.disk.files
    staging = files.stage()
    capture({"weight": torch.ones(1000)}, Classes(), staging)
    published = files.publish(staging)
    reference = SnapshotRef(published.digest, published.bytes)
    services.registry.register(replace(make_revision(1, "weigh"), snapshot=reference))
    path: Path = files.path(published.digest)
    return path


def last(response: Any) -> Any:
    """The last line of an answer."""
    return json.loads(response.text.splitlines()[-1])


def test_a_trial_restore_that_fails_makes_a_snapshot_unsound(
    client: TestClient, services: SimpleNamespace, directory: Path
) -> None:
    services.pipeline.reason = "The golden output is another."
    found = last(client.post("/snapshots/weigh/verify"))["result"]
    assert (found["sound"], found["restored"]) == (False, False)
    assert found["reason"] == "The golden output is another."


def test_a_trial_restore_that_works_ends_a_quarantine_and_no_other_does(
    client: TestClient, services: SimpleNamespace, directory: Path
) -> None:
    revision = services.registry.function("weigh").current.id
    services.registry.quarantine(revision, "It failed.")
    services.pipeline.reason = "The golden output is another."
    assert last(client.post("/snapshots/weigh/verify"))["result"]["reinstated"] == []
    assert services.registry.revision(revision).snapshot.quarantined
    services.pipeline.reason = None
    assert last(client.post("/snapshots/weigh/verify"))["result"]["reinstated"] == [revision]
    assert not services.registry.revision(revision).snapshot.quarantined
    assert services.registry.revision(revision).snapshot_reason is None


def test_a_manifest_that_is_damaged_makes_a_snapshot_unsound(
    client: TestClient, directory: Path
) -> None:
    manifest = directory / MANIFEST_FILE
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes().replace(b"cpu", b"gpu"))
    found = last(client.post("/snapshots/weigh/verify"))["result"]
    assert (found["sound"], found["restored"], found["files"]) == (False, None, [])
    assert "manifest" in found["reason"]
    (row,) = client.get("/snapshots").json()["snapshots"]
    assert row["device"] is None
    shown = client.get("/snapshots/weigh").json()
    assert (shown["tiers"], shown["functions"]) == (["disk"], ["weigh"])
    assert "manifest" in shown["fault"] and "files" not in shown


def test_a_snapshot_that_no_revision_has_is_read_but_not_restored(
    client: TestClient, services: SimpleNamespace, directory: Path
) -> None:
    services.registry.delete("weigh")
    found = last(client.post(f"/snapshots/{directory.name}/verify"))["result"]
    assert (found["sound"], found["restored"]) == (True, None)


def test_what_is_not_on_the_disk_is_neither_pushed_nor_verified_nor_pinned(
    client: TestClient, directory: Path
) -> None:
    for command in ("push", "verify", "pin"):
        answer = client.post(f"/snapshots/{'0' * 64}/{command}")
        assert answer.status_code == 404
        assert "is not on this node's disk" in answer.json()["detail"]


def test_without_a_store_a_pull_is_a_conflict(client: TestClient, directory: Path) -> None:
    answer = client.post(f"/snapshots/{'0' * 64}/pull")
    assert last(answer)["problem"]["status"] == 409


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/snapshots/prefetch", {}, "functions"),
        ("/snapshots/prefetch", {"functions": "weigh"}, "functions"),
        ("/snapshots/prefetch", {"functions": [7]}, "functions"),
        ("/snapshots/prefetch", {"functions": ["weigh"] * 1001}, "functions"),
        ("/snapshots/prune", {"dry_run": "yes"}, "dry_run"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_and_the_field_named(
    client: TestClient, path: str, body: dict[str, object], field: str
) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_a_function_that_there_is_not_is_not_prefetched(client: TestClient) -> None:
    answer = client.post("/snapshots/prefetch", json={"functions": ["nobody"]})
    assert answer.status_code == 404
    assert client.get("/functions/nobody/timeline").status_code == 404


def test_a_store_is_a_directory_or_a_bucket_that_needs_boto3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_store(SnapshotSettings()) is None
    directory = open_store(SnapshotSettings(store=f"file://{tmp_path}"))
    assert isinstance(directory, SharedDirectory)
    assert directory.listing() == ()
    assert open_store(SnapshotSettings(store="s3://bucket/prefix")) is not None
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match=r"pip install 'dsfn\[s3\]'"):
        open_store(SnapshotSettings(store="s3://bucket/prefix"))


def test_a_snapshot_that_a_sound_revision_has_is_not_said_to_be_quarantined() -> None:
    ref = SnapshotRef("1" * 64, 1)
    sound = replace(make_revision(1), snapshot=ref)
    shut = replace(
        make_revision(3), snapshot=replace(ref, quarantined=True), snapshot_reason="It failed."
    )

    def quarantine(*revisions: Revision) -> Any:
        row = Row(ref.digest, 1, "cpu", revisions, ("disk",), Record(ref.digest))
        return row_document(row)["quarantine"]

    assert quarantine(shut) == "It failed."
    assert quarantine(shut, sound) is None
    assert quarantine(sound) is None
    assert quarantine() is None
