"""A control service on this machine: a node's program whose functions run on a cluster."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dsfn.knative.cluster.connection import open_cluster
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.control.caller import open_client
from dsfn.knative.control.services import ClusterSettings, on_a_cluster
from dsfn.knative.manifests.function import ServiceSettings
from dsfn.knative.pod.settings import store_settings
from dsfn.knative.pod.store import open_published
from dsfn.runtime.config import load_settings
from dsfn.runtime.node import run_node


def main(
    host: str, port: int, data: Path, namespace: str, image: str, store: str, agent: str
) -> None:
    """Runs it until SIGTERM. `store`: "s3://BUCKET/PREFIX"; its server is named as boto3 has it.
    `agent`: where pods find that of their node, "" for no agents."""
    url = f"http://{host}:{port}"
    key = os.environ["DSFN_API_KEY"]
    services = ServiceSettings(namespace, image, store, url, secret="benchmark", agent=agent)
    place = on_a_cluster(
        ClusterSettings(services, key),
        Objects(open_cluster()),
        open_published(store_settings(store, os.environ)),
        open_client(),
    )
    run_node(load_settings(host, port, data), lambda _: None, place)


if __name__ == "__main__":
    _, host, port, data, *words = sys.argv
    main(host, int(port), Path(data), *words)
