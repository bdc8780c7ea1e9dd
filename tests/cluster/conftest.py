"""A namespace of a real cluster, whoever made it.

KUBECONFIG says which cluster. DSFN_TEST_HELLO_IMAGE is a server in Go that answers every GET on
$PORT, by default Knative's own example; DSFN_TEST_GATEWAY the address of Knative's ingress where
the addresses of Services are not resolved here, such as "http://127.0.0.1:31080".

Platforms have the images that DSFN_CONTROL_IMAGE and DSFN_FUNCTION_IMAGE name, and a PostgreSQL and
an S3 server on this machine, which pods reach at DSFN_TEST_HOST.

DSFN_TEST_STOP_API and DSFN_TEST_START_API are commands that take the cluster's API server away and
bring it back. Without them the test of that is skipped.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))

from live_cluster import LiveCluster, make_functions_account
from live_platform import LivePlatform, live_platform, surroundings
from postgres_server import PostgresServer
from s3_server import S3Server

from dsfn.knative.cluster.connection import open_cluster
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.platform import namespace_of

# Its functions need more room than there is beside the platform of the tests of faults, which
# stays from when it is first asked for: a node of two processors is enough.
FIRST = "test_conformance_on_a_cluster.py"
FAULTY = Path(__file__).parent / "apps" / "faulty.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of FIRST before the others."""
    items.sort(key=lambda each: each.path.name != FIRST)


@pytest.fixture(scope="session")
def objects() -> Objects:
    """The cluster's objects."""
    assert os.environ.get("KUBECONFIG"), "set KUBECONFIG to that of a cluster with Knative"
    return Objects(open_cluster())


@pytest.fixture
def told(database: str, s3: S3Server) -> Iterator[dict[str, str]]:
    """What a platform is told in its environment. Its database and its bucket are empty."""
    with surroundings(database, s3) as found:
        yield found.told


@pytest.fixture(scope="session")
def platform(
    objects: Objects,
    any_postgres: PostgresServer,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LivePlatform]:
    """A platform with agents, which the tests of faults share: its functions are up, and one
    deployment has shown that all of it works."""
    database = any_postgres.make_database()
    with live_platform(
        objects, database, s3, any_postgres, tmp_path_factory.mktemp("faults")
    ) as found:
        found.deploy(FAULTY)
        yield found
    any_postgres.drop_database(database)


@pytest.fixture
def whole(platform: LivePlatform) -> Iterator[LivePlatform]:
    """The platform, whole before and after a test."""
    platform.mend()
    yield platform
    platform.mend()


@pytest.fixture(scope="module")
def cluster(objects: Objects) -> Iterator[LiveCluster]:
    """A namespace of its own, as restricted as the platform's."""
    namespace = f"dsfn-test-{uuid.uuid4().hex[:8]}"
    objects.apply(namespace_of(namespace))
    make_functions_account(objects, namespace)
    yield LiveCluster(objects, namespace)
    objects.delete(namespace_of(namespace))
