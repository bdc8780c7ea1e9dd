"""A namespace of a real cluster, whoever made it.

KUBECONFIG says which cluster. DSFN_TEST_HELLO_IMAGE is a server in Go that answers every GET on
$PORT, by default Knative's own example; DSFN_TEST_GATEWAY the address of Knative's ingress where
the addresses of Services are not resolved here, such as "http://127.0.0.1:31080".

Platforms have the images that DSFN_CONTROL_IMAGE and DSFN_FUNCTION_IMAGE name, and a PostgreSQL and
an S3 server on this machine, which pods reach at DSFN_TEST_HOST.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import httpx
import pytest
from gates import gate
from live_cluster import LiveCluster, make_functions_account
from s3_server import CREDENTIALS, S3Server

from dsfn.knative.cluster.connection import open_cluster
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.platform import namespace_of


@pytest.fixture(scope="session")
def objects() -> Objects:
    """The cluster's objects."""
    assert os.environ.get("KUBECONFIG"), "set KUBECONFIG to that of a cluster with Knative"
    return Objects(open_cluster())


@pytest.fixture
def told(database: str, s3: S3Server) -> Iterator[dict[str, str]]:
    """What a platform is told in its environment. Its database and its bucket are empty."""
    names = ("DSFN_CONTROL_IMAGE", "DSFN_FUNCTION_IMAGE", "DSFN_TEST_HOST")
    host = os.environ.get("DSFN_TEST_HOST", "")
    missing = [name for name in names if not os.environ.get(name)]
    assert not missing, f"set {missing[0]}: docs/knative.md says to what"
    ledger = httpx.URL(database)
    with gate(ledger.port or 0, host=host) as postgres, gate(s3.port, host=host) as store:
        yield {
            "AWS_ACCESS_KEY_ID": CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": store.url,
            "DSFN_LEDGER": str(ledger.copy_with(host=host, port=postgres.port)),
            "DSFN_STORE": f"s3://{s3.make_bucket()}/platform",
            **{name: os.environ[name] for name in names},
        }


@pytest.fixture(scope="module")
def cluster(objects: Objects) -> Iterator[LiveCluster]:
    """A namespace of its own, as restricted as the platform's."""
    namespace = f"dsfn-test-{uuid.uuid4().hex[:8]}"
    objects.apply(namespace_of(namespace))
    make_functions_account(objects, namespace)
    yield LiveCluster(objects, namespace)
    objects.delete(namespace_of(namespace))
