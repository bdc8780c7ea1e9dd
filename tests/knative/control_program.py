"""A control service in a process of its own: a node's program whose functions run on a cluster."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import httpx
from acting_cluster import MappedTransport

from dsfn.knative.cluster.connection import open_cluster
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.control.services import ClusterSettings, on_a_cluster
from dsfn.knative.manifests.function import ServiceSettings
from dsfn.knative.pod.settings import store_settings
from dsfn.knative.pod.store import open_published
from dsfn.runtime.blobs.opening import name_of_node
from dsfn.runtime.config import load_settings
from dsfn.runtime.node import run_node


def main() -> None:
    """Runs it until SIGTERM."""
    parser = argparse.ArgumentParser()
    for name in ("store", "hosts", "key"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--port", type=int)
    parser.add_argument("--data", type=Path)
    told = parser.parse_args()
    settings = load_settings(None, told.port, told.data)
    services = ServiceSettings(
        namespace="functions",
        image="runtime",
        store=told.store,
        control_url=f"http://127.0.0.1:{told.port}",
        blobs=f"{settings.blobs.store}/{name_of_node(settings.data_dir / 'blobs')}",
    )
    place = on_a_cluster(
        ClusterSettings(services, told.key),
        Objects(open_cluster(is_of_control=True)),
        open_published(store_settings(told.store, os.environ)),
        httpx.AsyncClient(transport=MappedTransport(Path(told.hosts))),
    )
    run_node(settings, lambda _: None, place)


if __name__ == "__main__":
    main()
