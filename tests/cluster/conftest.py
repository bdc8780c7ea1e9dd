"""A namespace of a real cluster, whoever made it.

KUBECONFIG says which cluster. DSFN_TEST_HELLO_IMAGE is a server in Go that answers every GET on
$PORT, by default Knative's own example; DSFN_TEST_GATEWAY the address of Knative's ingress where
the addresses of Services are not resolved here, such as "http://127.0.0.1:31080".
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from live_cluster import LiveCluster, make_functions_account

from dsfn.knative.cluster.connection import open_cluster
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.platform import namespace_of


@pytest.fixture(scope="session")
def objects() -> Objects:
    """The cluster's objects."""
    assert os.environ.get("KUBECONFIG"), "set KUBECONFIG to that of a cluster with Knative"
    return Objects(open_cluster())


@pytest.fixture(scope="module")
def cluster(objects: Objects) -> Iterator[LiveCluster]:
    """A namespace of its own, as restricted as the platform's."""
    namespace = f"dsfn-test-{uuid.uuid4().hex[:8]}"
    objects.apply(namespace_of(namespace))
    make_functions_account(objects, namespace)
    yield LiveCluster(objects, namespace)
    objects.delete(namespace_of(namespace))
