"""A pod from its start to its end.

A cold call waits for all of this, so what takes long goes side by side: the fork server imports
what a worker needs, this process what serving needs, and the revision is fetched.

A revision of which no pod has been ready yet is proved first: then the port opens only once its
replica is loaded.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import uvloop

from dsfn.knative.pod.listening import BACKLOG
from dsfn.knative.pod.settings import PodSettings
from dsfn.runtime.disk import full_disk_errors
from dsfn.runtime.gpus.found import find_gpus
from dsfn.runtime.replicas.begun import Begun
from dsfn.runtime.replicas.launcher import Launcher

if TYPE_CHECKING:
    from dsfn.knative.pod.assembly import Pod
    from dsfn.knative.pod.document import Published
    from dsfn.knative.pod.store import Store

_THE_REST = ("dsfn.knative.pod.assembly", "dsfn.knative.pod.server", "dsfn.runtime.gateway.serving")


def run(listener: socket.socket, settings: PodSettings, begun: Begun | None) -> None:
    """Serves the connections of `listener`, a port that is taken, until SIGTERM, and all that has
    come by then. `begun`: a fork server that imports the libraries of `settings`, where these say
    them. The garbage collector is off when it begins, and on from where it serves.

    Raises `UsageError` for what the store does not have, `StoreUnavailable`, `StorageFull`, and
    what keeps a revision from being proved.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    uvloop.run(_serve(listener, settings, begun))


async def _serve(listener: socket.socket, settings: PodSettings, begun: Begun | None) -> None:
    with full_disk_errors("the pod"):
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    launcher = None if begun is None else _launcher(settings, settings.libraries or (), begun)
    fetching = asyncio.create_task(asyncio.to_thread(_fetch, settings))
    importing = asyncio.create_task(asyncio.to_thread(import_the_rest))
    published, store, proved = await fetching
    if proved:
        # The pod is ready: whoever connects waits while the rest is imported.
        listener.listen(BACKLOG)
    launcher = launcher or _launcher(settings, published.libraries)
    await importing
    from dsfn.knative.pod.assembly import assemble
    from dsfn.knative.pod.server import PodServer
    from dsfn.runtime.gateway.serving import server_config

    revision = published.revision
    pod = assemble(settings, revision, store, launcher)
    # No call takes longer; Knative, which gives a pod as long as a request may take, waits more.
    patience_s = revision.options.timeout_s + settings.limits.queue_timeout_s
    config = server_config(pod.front, settings.limits, patience_s)
    async with pod.running():
        # What lives now lives for ever: the collector need not look at it, and has not yet.
        gc.freeze()
        gc.enable()
        if not proved and not await _prove(pod, settings.limits.start_timeout_s):
            return
        server = PodServer(config, pod.front, pod.pools.cut_off, patience_s)
        await server.serve(sockets=[listener])


def _launcher(
    settings: PodSettings, libraries: tuple[str, ...], begun: Begun | None = None
) -> Launcher:
    """A launcher whose first worker is on its way."""
    launcher = Launcher(settings.limits.spares, bool(find_gpus(None).devices), libraries, begun)
    launcher.nursery("", Path(sys.executable)).warm()
    return launcher


async def _prove(pod: Pod, patience_s: float) -> bool:
    # Most pods are of a revision that is proved.
    from dsfn.knative.pod.proving import prove

    return await prove(pod.pools, pod.revision, patience_s)


def _fetch(settings: PodSettings) -> tuple[Published, Store, bool]:
    """The revision, its store, and whether it is proved, which is asked meanwhile. Runs in a
    thread, and imports there what it needs."""
    from dsfn.knative.pod.publication import fetch, is_proved
    from dsfn.knative.pod.store import open_published

    store = open_published(settings.store)
    with ThreadPoolExecutor(1) as beside:
        proved = beside.submit(is_proved, settings.revision, store)
        published = fetch(settings.revision, settings.data_dir / "bundles", store)
        return published, store, proved.result()


def import_the_rest() -> None:
    """Imports what serving needs."""
    # uvicorn's package imports its command line, and with that click and what watches files: a
    # tenth of all that is imported here, and nothing that a pod uses.
    command_line = ModuleType("uvicorn.main")
    vars(command_line).update(Server=None, main=None, run=None)
    sys.modules.setdefault(command_line.__name__, command_line)
    for module in _THE_REST:
        import_module(module)
