"""A pod from its start to its end.

A cold call waits for all of this, so what takes long goes side by side: the fork server imports
what a worker needs, this process what serving needs, and the revision is fetched.

The port of a revision of which a pod has been ready before is open already. Another is proved
first: then the port opens only once its replica is loaded.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from dsfn.knative.pod.patience import patiently
from dsfn.knative.pod.settings import PodSettings
from dsfn.runtime.disk import full_disk_errors
from dsfn.runtime.gpus.found import find_gpus
from dsfn.runtime.left_out import left_out
from dsfn.runtime.replicas.begun import Begun
from dsfn.runtime.replicas.launcher import Launcher

if TYPE_CHECKING:
    from dsfn.knative.pod.document import Published
    from dsfn.knative.pod.store import Store
    from dsfn.runtime.model import Revision
    from dsfn.runtime.replicas.pools import Pools

# uvicorn's command line, with click and what watches files, and readers of configuration for logs:
# an eighth of all that would be imported here.
_NOT_NEEDED = {
    "uvicorn.main": ("Server", "main", "run"),
    "logging.config": (),
    "configparser": ("RawConfigParser",),
}
_THE_REST = ("dsfn.knative.pod.assembly", "dsfn.knative.pod.server", "dsfn.runtime.gateway.serving")


def run(listener: socket.socket, settings: PodSettings, begun: Begun | None) -> None:
    """Serves the connections of `listener`, a port that is taken, until SIGTERM, and all that has
    come by then, or ends at once where it does not serve yet. `begun`: a fork server, where the
    pod was told what this imports. The garbage collector is off when it begins,
    and on from where it serves.

    Raises `UsageError` for what the store does not have, `StoreUnavailable`, `StorageFull`, and
    what keeps a revision from being proved.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    with suppress(asyncio.CancelledError):
        uvloop.run(_serve(listener, settings, begun))


async def _serve(listener: socket.socket, settings: PodSettings, begun: Begun | None) -> None:
    _end_at_signals()
    with full_disk_errors("the pod"):
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    launcher = None if begun is None else _launcher(settings, begun.libraries, begun)
    # Callers of a proved one may be connected already, and wait while the store is away.
    patience_s = settings.limits.start_timeout_s if settings.proved else 0.0
    fetch = partial(asyncio.to_thread, _fetch, settings)
    fetching = asyncio.create_task(patiently(fetch, patience_s))
    importing = asyncio.create_task(asyncio.to_thread(import_the_rest))
    published, store = await fetching
    launcher = launcher or _launcher(settings, published.libraries)
    await importing
    from dsfn.knative.pod.assembly import assemble
    from dsfn.knative.pod.disk import kept_within
    from dsfn.knative.pod.server import PodServer
    from dsfn.runtime.gateway.serving import server_config

    revision = published.revision
    pod = assemble(settings, revision, store, launcher)
    # No call takes longer; Knative, which gives a pod as long as a request may take, waits more.
    drain_s = revision.options.timeout_s + settings.limits.queue_timeout_s
    config = server_config(pod.front, settings.limits, drain_s)
    async with pod.running():
        # What lives now lives for ever: the collector need not look at it, and has not yet.
        gc.freeze()
        gc.enable()
        if not settings.proved:
            await prove(pod.pools, pod.revision, settings.limits.start_timeout_s)
        server = PodServer(config, pod.front, pod.pools.cut_off, drain_s)
        places = (settings.data_dir, Path(tempfile.gettempdir()))
        async with kept_within(settings.max_disk_bytes, places, server.stop):
            await server.serve(sockets=[listener])


def _launcher(
    settings: PodSettings, libraries: tuple[str, ...], begun: Begun | None = None
) -> Launcher:
    """A launcher whose first worker is on its way."""
    launcher = Launcher(
        settings.limits.spares, bool(find_gpus(settings.gpu.devices).devices), libraries, begun
    )
    launcher.nursery("", Path(sys.executable)).warm()
    return launcher


def _end_at_signals() -> None:
    """Has SIGTERM and SIGINT end this task until the server hears them itself: process 1 of a
    container would not be ended by one."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)


async def prove(pools: Pools, revision: Revision, patience_s: float) -> None:
    """The proof of a revision, before it gets any call: returns once a replica of it is loaded. The
    pod is not ready meanwhile, and ends where that fails: so whoever deploys it hears why, and the
    revision before goes on serving.

    Raises `ReplicaStartFailed`, and after `patience_s` what else lacks: room, say.
    """
    lease = await patiently(lambda: pools.acquire(revision), patience_s)
    lease.replica.unreserve(lease.slot)


def _fetch(settings: PodSettings) -> tuple[Published, Store]:
    """Runs in a thread, and imports there what it needs."""
    from dsfn.knative.pod.publication import fetch
    from dsfn.knative.pod.store import open_published

    store = open_published(settings.store)
    return fetch(settings.revision, settings.data_dir / "bundles", store), store


def import_all() -> None:
    """Imports what a pod does until its first answer, the fetching of its revision included."""
    import_module("dsfn.knative.pod.publication")
    import_the_rest()


def import_the_rest() -> None:
    """Imports what serving needs."""
    with left_out(_NOT_NEEDED):
        for module in _THE_REST:
            import_module(module)
