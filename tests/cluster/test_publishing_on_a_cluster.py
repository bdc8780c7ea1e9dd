"""Revisions come into a real cluster beside those that serve, and take over once they are ready."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from deadlines import eventually
from live_cluster import HELLO, LiveCluster
from revisions import event_type, make_revision

from dsfn.functions.errors import NotReady
from dsfn.functions.options import Options
from dsfn.knative.cluster.waiting import wait_ready
from dsfn.knative.control.function_services import FunctionServices, Share
from dsfn.knative.control.publishing import Placed, Publisher
from dsfn.knative.manifests.function import ServiceSettings
from dsfn.knative.manifests.traffic import tag_of
from dsfn.knative.manifests.trigger import DeadLetterSink
from dsfn.knative.manifests.words import Manifest
from dsfn.knative.pod.store import open_published
from dsfn.runtime.config import SnapshotSettings
from dsfn.runtime.model import Revision
from dsfn.snapshots.store import FileStore

pytestmark = pytest.mark.cluster

# A number that is even has no snapshot.
FIRST, SECOND, THIRD = (
    replace(
        make_revision(number, "published", (event_type("x"),)),
        options=Options("published", park_after_s=6, remove_after_s=6),
    )
    for number in (2, 4, 6)
)


def sink(function: str) -> DeadLetterSink:
    """None of these functions has a filter."""
    return DeadLetterSink("dsfn-control", f"/{function}")


@pytest.fixture(scope="module")
def services(cluster: LiveCluster) -> FunctionServices:
    return FunctionServices(cluster.objects, cluster.namespace, "dsfn", sink)


@pytest.fixture(scope="module")
def publisher(
    cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Publisher]:
    place = tmp_path_factory.mktemp("published")
    for revision in (FIRST, SECOND, THIRD):
        bundle = place / "bundles" / revision.bundle_digest
        bundle.mkdir(parents=True)
        (bundle / "app.py").write_text("import dsfn\n", encoding="utf-8")
    store = open_published(SnapshotSettings(f"file://{_made(place / 'store')}"))
    yield Publisher(
        cluster.objects,
        store,
        ServiceSettings(cluster.namespace, HELLO, "file:///store", "http://dsfn-control"),
        place / "bundles",
        FileStore(place / "snapshots"),
        lambda _: (),
        60.0,
        60.0,
    )
    store.snapshots.close()


def _made(place: Path) -> Path:
    place.mkdir()
    return place


def waited(publisher: Publisher, placed: Placed) -> Manifest:
    """The Service once the revision is ready."""
    return wait_ready(publisher.objects, placed.service, publisher.deadline_s, print)


def placed_by(publisher: Publisher, revision: Revision) -> Placed:
    """Has the cluster start a revision."""
    placed = publisher.prepare(revision)
    publisher.place(placed)
    return placed


def brought(publisher: Publisher, services: FunctionServices, revision: Revision) -> str:
    """Brings a revision into the cluster; what Knative calls it."""
    placed = placed_by(publisher, revision)
    service = waited(publisher, placed)
    publisher.prove(placed)
    services.note(revision.function, service)
    services.names[revision.id] = placed.name
    return placed.name


def shared(services: FunctionServices, share: Share) -> None:
    """Has calls be shared out so."""
    services.tell(share)
    eventually(lambda: services.is_ready(share), "the Service to be ready")


def test_a_revision_takes_no_calls_before_it_is_told_to(
    cluster: LiveCluster, publisher: Publisher, services: FunctionServices
) -> None:
    first = brought(publisher, services, FIRST)
    shared(services, Share(FIRST, ((first, 100),)))
    second = brought(publisher, services, SECOND)
    live = cluster.objects.read(placed_by(publisher, SECOND).service)
    assert live is not None
    assert [(each["revisionName"], each["percent"]) for each in live["status"]["traffic"]] == [
        (first, 100)
    ]
    first_url, second_url = map(services.address, (FIRST, SECOND))
    assert (first_url or "").startswith(f"http://{tag_of(first)}-published.")
    assert second_url is None
    shared(services, Share(SECOND, ((second, 90), (first, 10))))
    live = cluster.objects.read(placed_by(publisher, SECOND).service)
    assert live is not None
    assert {each["revisionName"]: each["percent"] for each in live["status"]["traffic"]} == {
        second: 90,
        first: 10,
    }
    assert all(each["url"].startswith("http://r") for each in live["status"]["traffic"])
    assert (services.address(SECOND) or "").startswith(f"http://{tag_of(second)}-published.")
    known = FunctionServices(cluster.objects, cluster.namespace, "dsfn", sink)
    known.load()
    assert known.names == {FIRST.id: first, SECOND.id: second}
    assert known.address(SECOND) == services.address(SECOND)
    assert cluster.get(live).status_code == 200


def test_one_that_cannot_be_ready_leaves_all_as_it_was(
    cluster: LiveCluster, publisher: Publisher
) -> None:
    broken = replace(publisher, settings=replace(publisher.settings, image="dev.local/no:v1"))
    before = cluster.objects.read(placed_by(publisher, SECOND).service)
    placed = placed_by(broken, THIRD)
    with pytest.raises(NotReady, match="cannot be pulled"):
        waited(broken, placed)
    assert before is not None and cluster.get(before).status_code == 200
    broken.put_back(placed.former)
    after = waited(publisher, placed)
    assert after["status"]["traffic"] == before["status"]["traffic"]
    assert cluster.get(after).status_code == 200
    gone = placed.knative_revision
    eventually(lambda: cluster.objects.read(gone) is None, "the revision to go, with its pods")


def test_a_function_that_is_removed_is_gone(
    cluster: LiveCluster, publisher: Publisher, services: FunctionServices
) -> None:
    service = placed_by(publisher, SECOND).service
    services.remove("published")
    services.remove("published")
    assert services.urls == {}
    found = cluster.objects.read(service)
    assert found is None or "deletionTimestamp" in found["metadata"]
