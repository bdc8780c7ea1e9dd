"""The agent from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import signal

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.agent.committing import Committer
from dsfn.knative.agent.forwarding import Forwarder
from dsfn.knative.agent.prefetching import prefetch
from dsfn.knative.agent.presence import Presence
from dsfn.knative.agent.server import Server, listen, listen_tcp
from dsfn.knative.agent.settings import AgentSettings
from dsfn.knative.agent.snapshots import NodeSnapshots
from dsfn.knative.agent.warming import keep_warm
from dsfn.knative.pod.control import Control
from dsfn.knative.pod.http import HttpClient
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.config import Limits
from dsfn.runtime.disk import full_disk_errors
from dsfn.runtime.tiers.copies import Copies
from dsfn.runtime.tiers.opening import open_store
from dsfn.snapshots.secrets import keep_secrets
from dsfn.snapshots.store import FileStore

# Rows, questions of pods, and what is to be fetched ahead.
CONTROL_THREADS = 3


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

    async def run(self) -> None:
        """Serves until SIGTERM. Rows that are left wait on the disk for the next run. Whatever
        part of it fails takes all of it along: the cluster starts it anew."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        await self.presence.recall()
        listener, port = listen(self.settings.socket), listen_tcp(self.settings.port)
        try:
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
                    parts.append(tasks.create_task(keep_warm(self.settings.libraries)))
                await ended.wait()
                for part in parts:
                    part.cancel()
        finally:
            listener.close()
            port.close()
            await self._close()

    async def _close(self) -> None:
        await self.server.close()
        await self.forwarder.drain()
        await self.copies.close()
        await self.committer.close()
        self.control.client.close()


def assemble(settings: AgentSettings) -> Agent:
    """The parts of an agent. Raises `UsageError`, `StorageFull`."""
    store = open_store(settings.store)
    if store is None:
        raise UsageError("No store is named.")
    with full_disk_errors("the agent"):
        settings.data_dir.mkdir(parents=True, exist_ok=True)
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


def run(settings: AgentSettings) -> None:
    """The program. Raises `UsageError`, `StorageFull`."""
    keep_secrets()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

    async def serve() -> None:
        await assemble(settings).run()

    asyncio.run(serve())
