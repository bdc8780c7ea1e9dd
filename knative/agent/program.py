"""The agent from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from contextlib import closing, suppress

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.agent.committing import Committer
from dsfn.knative.agent.forwarding import Forwarder
from dsfn.knative.agent.imaging import forget_images, make_images
from dsfn.knative.agent.prefetching import prefetch
from dsfn.knative.agent.presence import Presence
from dsfn.knative.agent.server import Server, listen, listen_tcp
from dsfn.knative.agent.settings import AgentSettings
from dsfn.knative.agent.snapshots import NodeSnapshots
from dsfn.knative.agent.turn import Turn
from dsfn.knative.agent.warming import keep_warm
from dsfn.knative.pod.control import Control
from dsfn.knative.pod.http import HttpClient
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.config import Limits
from dsfn.runtime.disk import full_disk_errors
from dsfn.runtime.tiers.copies import Copies
from dsfn.runtime.tiers.opening import open_store
from dsfn.runtime.waiting import wait_within
from dsfn.snapshots.secrets import keep_secrets
from dsfn.snapshots.store import FileStore

# Rows, questions of pods, and what is to be fetched ahead.
CONTROL_THREADS = 3
# One that ends sends rows for so long: the next one may stand by, and has them on the disk.
DRAIN_S = 2.0
# Pods have nobody to ask for as long, once the one before has ended.
STAND_BY_S = 0.02


@dataclass(frozen=True, slots=True)
class Agent:
    """Its parts."""

    settings: AgentSettings
    committer: Committer
    copies: Copies
    control: Control
    forwarder: Forwarder
    presence: Presence
    server: Server

    async def run(self, port: socket.socket, ended: asyncio.Event) -> None:
        """Serves, at its socket and at `port`, until it has `ended`. Rows that are left wait on the
        disk for the next run. Whatever part of it fails takes all of it along: the cluster starts
        it anew."""
        await self.presence.recall()
        listener = listen(self.settings.socket)
        try:
            # They have what many pods share: not longer than the agent runs.
            forget_images(self.settings.socket.parent)
            async with asyncio.TaskGroup() as tasks:
                parts = [
                    tasks.create_task(self.server.run(listener)),
                    tasks.create_task(self.server.run(port)),
                    tasks.create_task(self.forwarder.run()),
                    tasks.create_task(self.presence.run()),
                    tasks.create_task(
                        prefetch(self.settings.prefetch, self.control, self.server.snapshots)
                    ),
                ]
                if self.settings.libraries:
                    parts += self._ready_ahead(tasks)
                await ended.wait()
                for part in parts:
                    part.cancel()
        finally:
            listener.close()
            port.close()
            await self._close()

    def _ready_ahead(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """What has the node ready for pods before they come."""
        libraries = self.settings.libraries
        return [
            tasks.create_task(make_images(self.settings.socket.parent, libraries)),
            tasks.create_task(keep_warm(libraries)),
        ]

    async def _close(self) -> None:
        await self.server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self.forwarder.drain()
        await self.copies.close()
        await self.committer.close()
        self.control.client.close()


def assemble(settings: AgentSettings) -> Agent:
    """The parts of an agent. Raises `UsageError`, `StorageFull`."""
    store = open_store(settings.store)
    if store is None:
        raise UsageError("No store is named.")
    committer = Committer.open(
        settings.data_dir / "outbox.db", settings.max_rows, settings.max_outbox_bytes
    )
    root = settings.data_dir / "snapshots"
    files = FileStore(root)
    files.clean()
    copies = Copies(files, store, Limits().transfer_timeout_s)
    control = Control(HttpClient(settings.control, CONTROL_THREADS), settings.api_key)
    forwarder = Forwarder(committer, control)
    presence = Presence(committer, forwarder, SystemClock())
    snapshots = NodeSnapshots(copies, root, settings.shown, settings.max_snapshot_bytes)
    server = Server(committer, forwarder, presence, snapshots, control, settings.api_key)
    return Agent(settings, committer, copies, control, forwarder, presence, server)


async def serve(settings: AgentSettings) -> None:
    """An agent from its start until SIGTERM. While another one has the node it stands by: pods that
    connect to it already wait until that one has ended. Raises `UsageError`, `StorageFull`."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    with full_disk_errors("the agent"):
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    turn = Turn(settings.data_dir)
    with closing(listen_tcp(settings.port)) as port:
        try:
            while not (ended.is_set() or turn.take()):
                await wait_within(ended, STAND_BY_S)
            if not ended.is_set():
                await assemble(settings).run(port, ended)
        finally:
            turn.end()


def run(settings: AgentSettings) -> None:
    """The program. Raises `UsageError`, `StorageFull`."""
    keep_secrets()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    asyncio.run(serve(settings))
