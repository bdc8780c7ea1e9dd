"""A pod from its start to its end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket

import uvloop

from dsfn.knative.pod.assembly import LIMITS, assemble, control_of
from dsfn.knative.pod.publication import fetch
from dsfn.knative.pod.server import PodServer
from dsfn.knative.pod.settings import PodSettings, read_settings
from dsfn.knative.pod.store import open_published
from dsfn.runtime.disk import full_disk_errors
from dsfn.runtime.gateway.serving import server_config

# Knative lets a pod end for as long as a request may take at most, by its own default.
DRAIN_PATIENCE_S = 280.0


def run(listener: socket.socket) -> None:
    """Serves the connections of `listener` until SIGTERM, and all that has come by then.

    Raises `UsageError` for what the environment says or the store does not have,
    `StoreUnavailable`, `StorageFull`.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    uvloop.run(_serve(read_settings(os.environ), listener))


async def _serve(settings: PodSettings, listener: socket.socket) -> None:
    with full_disk_errors("the pod"):
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = open_published(settings.store)
    bundles = settings.data_dir / "bundles"
    revision = await asyncio.to_thread(fetch, settings.revision, bundles, store)
    pod = assemble(settings, control_of(settings), revision, store)
    config = server_config(pod.front, LIMITS, DRAIN_PATIENCE_S)
    async with pod.running():
        # What lives now lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        server = PodServer(config, pod.front, pod.pools.cut_off, DRAIN_PATIENCE_S)
        await server.serve(sockets=[listener])
