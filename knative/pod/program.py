"""A pod from its start to its end.

A cold call waits for all of this, so what takes long goes side by side: the revision is fetched
while this process imports what serving needs, and its fork server imports what a worker needs as
soon as the revision has said what that is.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
from importlib import import_module
from pathlib import Path

import uvloop

from dsfn.knative.pod.publication import fetch
from dsfn.knative.pod.settings import PodSettings, read_settings
from dsfn.knative.pod.store import Store, open_published
from dsfn.runtime.disk import full_disk_errors
from dsfn.runtime.gpus.found import find_gpus
from dsfn.runtime.model import Revision
from dsfn.runtime.replicas.launcher import Launcher


def run(listener: socket.socket) -> None:
    """Serves the connections of `listener` until SIGTERM, and all that has come by then.

    Raises `UsageError` for what the environment says or the store does not have,
    `StoreUnavailable`, `StorageFull`.
    """
    gc.disable()  # nothing of what a start makes is garbage
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    uvloop.run(_serve(read_settings(os.environ), listener))


async def _serve(settings: PodSettings, listener: socket.socket) -> None:
    with full_disk_errors("the pod"):
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = open_published(settings.store)
    importing = asyncio.create_task(asyncio.to_thread(_import_the_rest))
    revision, launcher = await _begin(settings, store)
    await importing
    from dsfn.knative.pod.assembly import assemble
    from dsfn.knative.pod.server import PodServer
    from dsfn.runtime.gateway.serving import server_config

    pod = assemble(settings, revision, store, launcher)
    # No call takes longer; Knative, which gives a pod as long as a request may take, waits more.
    patience_s = revision.options.timeout_s + settings.limits.queue_timeout_s
    config = server_config(pod.front, settings.limits, patience_s)
    async with pod.running():
        # What lives now lives for ever: the collector need not look at it, and has not yet.
        gc.freeze()
        gc.enable()
        server = PodServer(config, pod.front, pod.pools.cut_off, patience_s)
        await server.serve(sockets=[listener])


async def _begin(settings: PodSettings, store: Store) -> tuple[Revision, Launcher]:
    """The revision, and a launcher whose first worker is on its way."""
    bundles = settings.data_dir / "bundles"
    published = await asyncio.to_thread(fetch, settings.revision, bundles, store)
    gpus = bool(find_gpus(None).devices)
    launcher = Launcher(settings.limits.spares, gpus, published.libraries)
    launcher.nursery("", Path(sys.executable)).warm()
    return published.revision, launcher


def _import_the_rest() -> None:
    for module in ("pod.assembly", "pod.server"):
        import_module(f"dsfn.knative.{module}")
    import_module("dsfn.runtime.gateway.serving")
