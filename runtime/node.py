"""A node: puts its parts together, serves until it is told to stop, takes them apart."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import uvicorn
import uvloop
from starlette.types import ASGIApp

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass
from dsfn.runtime.assembly import assemble
from dsfn.runtime.calling import MakePlace, on_this_node
from dsfn.runtime.clock import SystemClock, rfc3339
from dsfn.runtime.config import Limits, Settings
from dsfn.runtime.data_directory import DataDirectory
from dsfn.runtime.gateway.app import build_app
from dsfn.runtime.gateway.serving import (
    BACKLOG,
    SignalledServer,
    server_config,
    serving_beside,
)
from dsfn.runtime.ledgers import open_ledger
from dsfn.runtime.services import Services
from dsfn.runtime.state import FILE_NAME, DiskState, OpenState
from dsfn.snapshots.owner.linux import allow_many_descriptors


@dataclass(frozen=True, slots=True)
class Entrances:
    """Listeners at which a node takes connections, and which it closes.

    `outer`: until it is told to stop, when `stopping` is called in the event loop's thread.
    `inner`: until what was under way has ended, for those by whom it ends.
    """

    outer: socket.socket
    inner: socket.socket | None = None
    stopping: Callable[[], None] = lambda: None


def run_node(
    settings: Settings,
    on_ready: Callable[[str], None],
    make_place: MakePlace = on_this_node,
    open_state: OpenState = DiskState,
    entrances: Entrances | None = None,
) -> None:
    """Runs a node until SIGTERM or SIGINT; `on_ready` gets its URL once it takes calls. Functions
    run where `make_place` says, its state is where `open_state` says. Without `entrances` it has
    an outer one of its own.

    Raises `UsageError` when the data directory is in use or the port is taken, and `DeviceFault`
    when a device that the configuration names is not there.
    """
    directory = DataDirectory.lock(settings.data_dir)
    try:
        entrances = entrances or Entrances(listen(settings))
        with entrances.outer, entrances.inner or nullcontext():
            # Every replica costs two and every client one.
            allow_many_descriptors()
            uvloop.run(_serve(settings, directory, entrances, on_ready, make_place, open_state))
    finally:
        directory.release()


async def _serve(
    settings: Settings,
    directory: DataDirectory,
    entrances: Entrances,
    on_ready: Callable[[str], None],
    make_place: MakePlace,
    open_state: OpenState,
) -> None:
    host, port = entrances.outer.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    async with _node(settings, make_place, open_state) as services:
        app, patience_s = build_app(services), settings.limits.shutdown_timeout_s

        def ready() -> None:
            services.life.accepts_calls = True
            started_at = rfc3339(services.life.started_at_us)
            directory.announce(url, started_at, services.access.local_key)
            on_ready(url)

        # What lives now lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        async with _inner(entrances, app, settings.limits), _working(services):
            config = server_config(app, settings.limits, patience_s)
            server = NodeServer(config, services, ready, entrances.stopping)
            await server.serve(sockets=[entrances.outer])


@asynccontextmanager
async def _node(
    settings: Settings, make_place: MakePlace, open_state: OpenState
) -> AsyncIterator[Services]:
    """The parts of a node, recovered from what is stored, and stopped at the end, when `_working`
    has ended."""
    state = open_state(settings.data_dir / FILE_NAME)
    ledger = open_ledger(settings)
    try:
        services = assemble(settings, SystemClock(), state.connection, ledger, make_place)
        state.keep()
        _recover(services)
        await services.tiers.start()
        services.gpus.start()
        await services.gpus.check_named()
        services.backlog.start()
        services.meter.start()
        services.serving.start()
        services.runs.start_serving()
        # All that the node before this one owed is in the ledger.
        if not services.serving.outlives_node:
            ledger.close_leases()
        services.budgets.start()
        services.notary.start()
        services.schedules.start()
        services.dispatcher.start()
        services.canaries.start()
        services.sweeper.start()
        services.outbox.start()
        try:
            yield services
        finally:
            await services.tiers.close()
            await services.serving.close()
            await services.meter.close()
            await services.gpus.close()
            services.blobs.close()
            await services.budgets.close()
            await services.backlog.close()
            await services.notary.close()
            await services.writer.close()
    finally:
        ledger.close()
        state.close()


@asynccontextmanager
async def _working(services: Services) -> AsyncIterator[None]:
    """At the block's end all ends that calls functions of its own accord, while the parts of the
    node that calls need are still there."""
    try:
        yield
    finally:
        services.life.accepts_calls = False
        await services.outbox.close()
        await services.canaries.close()
        await services.sweeper.close()
        await services.schedules.close()
        await services.dispatcher.close()
        await services.runs.close()


def _inner(entrances: Entrances, app: ASGIApp, limits: Limits) -> AbstractAsyncContextManager[None]:
    """Takes connections at the inner entrance, where there is one, inside the block."""
    if entrances.inner is None:
        return nullcontext()
    return serving_beside(server_config(app, limits, 0), entrances.inner)


def _recover(services: Services) -> None:
    """Finishes what a node that was killed had begun."""
    unposted = list(services.answers.unposted())
    services.ledger.post([usage for _, usage in unposted])
    services.answers.posted(key for key, _ in unposted)
    services.pipeline.clean()
    services.blobs.clean()


class NodeServer(SignalledServer):
    """Serves a node."""

    def __init__(
        self,
        config: uvicorn.Config,
        services: Services,
        ready: Callable[[], None],
        stopping: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._services = services
        self._ready = ready
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to serve; only then, with signals heard, is the node ready."""
        await super().startup(sockets)
        self._ready()

    def stop(self) -> None:
        """Lets calls end; a second signal does not wait for open connections."""
        self.force_exit = self.should_exit
        self.should_exit = True
        services = self._services
        services.life.accepts_calls = False
        services.logs.stop_following()
        services.runs.drain()
        patience_s = services.settings.limits.shutdown_timeout_s
        asyncio.get_running_loop().call_later(patience_s, self._cut_off)
        self._stopping()

    def _cut_off(self) -> None:
        """Ends what has not ended by itself, each with a word to whoever waits for it."""
        self._services.serving.cut_off()
        self._services.pipeline.cut_off()


def listen(settings: Settings) -> socket.socket:
    """The socket at which a node takes connections. Raises `UsageError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(f"{settings.host!r} is not an address of this machine.") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"The node cannot listen on {settings.host} port {settings.port}:"
            f" {(error.strerror or str(error)).lower()}. Choose another with --port."
        ) from error
    return listener


logging.getLogger("uvicorn").setLevel(logging.ERROR)
