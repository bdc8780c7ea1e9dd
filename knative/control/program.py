"""The control service from its start to its end: it stands by, and then it leads."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import uvloop

from dsfn.billing.address import Address
from dsfn.billing.postgres import connect
from dsfn.billing.signing import FILE_NAME as KEY_FILE
from dsfn.knative.cluster.connection import open_cluster
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.control.door import Door
from dsfn.knative.control.journal import JournaledState, restore
from dsfn.knative.control.journal_tables import JournalTables
from dsfn.knative.control.leadership import Leadership
from dsfn.knative.control.lease import Lease
from dsfn.knative.control.passing import Passing
from dsfn.knative.control.services import on_a_cluster
from dsfn.knative.control.settings import BLOBS_FOLDER, ControlSettings
from dsfn.knative.pod.store import open_published
from dsfn.runtime.config import SnapshotSettings
from dsfn.runtime.ledgers import require_psycopg
from dsfn.runtime.node import Entrances, listen, run_node
from dsfn.runtime.tiers.opening import open_bucket
from dsfn.snapshots.s3_bucket import Fault, Missing
from dsfn.snapshots.secrets import keep_secrets

_LOG = logging.getLogger("dsfn.control")


def run(settings: ControlSettings, client: httpx.AsyncClient) -> None:
    """The program: until SIGTERM, or until it may lead no longer. `client` calls functions.

    Raises `UsageError`, `StoreUnavailable`, `StorageFull`.
    """
    keep_secrets()
    require_psycopg()
    _require_bucket(settings.store)
    database = Address(settings.node.ledger)
    leadership = Leadership(
        Lease.open(settings.namespace),
        settings.name,
        settings.url,
        may_lead=lambda: connect(database).close(),
        end=_end,
    )
    with listen(settings.node) as listener:
        door = Door(Passing(lambda: leadership.leader_url, settings.url), listener)
        door.open()
        try:
            if uvloop.run(_stand_by(leadership)):
                _LOG.warning("%s leads.", settings.name)
                door.shut()
                _lead(settings, door, client)
        finally:
            leadership.resign()
            # What has come since this replica was told to stop waits for the next leader.
            door.open()
            door.close(settings.node.limits.shutdown_timeout_s)
            leadership.close()


def _require_bucket(store: SnapshotSettings) -> None:
    """Raises `StoreUnavailable` where the store says that it has no such bucket, or refuses the
    credentials. One that says nothing may come back: calls do without it."""
    bucket = open_bucket(store)
    try:
        with suppress(Fault):
            bucket.keys("", 1)
    except Missing as error:
        raise bucket.unavailable(str(error)) from error
    finally:
        bucket.close()


async def _stand_by(leadership: Leadership) -> bool:
    """Whether this replica leads: once it does, or is told to stop."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    is_stopped = False

    def stop() -> None:
        nonlocal is_stopped
        is_stopped = True
        over.set()

    def won() -> None:
        with suppress(RuntimeError):  # it is told to stop in the same moment
            loop.call_soon_threadsafe(over.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    leadership.start(won)
    await over.wait()
    return not is_stopped


def _lead(settings: ControlSettings, door: Door, client: httpx.AsyncClient) -> None:
    """Is the node, with the state that the leaders before have left. Once it is told to stop it
    takes at an entrance of its own what calls under way need to end: the rows that pods post."""
    # Until the node hears signals itself: process 1 of a container would not be ended by one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def open_state(path: Path) -> JournaledState:
        tables = JournalTables.take_over(Address(settings.node.ledger))
        return restore(path, tables, _end)

    _prepare(settings)
    objects, store = Objects(open_cluster(is_of_control=True)), open_published(settings.store)
    place = on_a_cluster(settings.cluster, objects, store, client)
    inner = socket.create_server(("127.0.0.1", 0))
    inner_url = f"http://127.0.0.1:{inner.getsockname()[1]}"

    def stopping() -> None:
        _LOG.warning("%s is told to stop.", settings.name)
        door.open(inner_url)

    entrances = Entrances(door.listener.dup(), inner, stopping)
    run_node(settings.node, lambda _: None, place, open_state, entrances)


def _prepare(settings: ControlSettings) -> None:
    """Has the data directory say what is the same for all leaders. What else is there is a copy of
    what the bucket has: blobs that another leader has removed meanwhile must not come back."""
    directory = settings.node.data_dir
    blobs, key = directory / "blobs", directory / KEY_FILE
    shutil.rmtree(blobs, ignore_errors=True)
    blobs.mkdir(parents=True)
    (blobs / "node").write_text(BLOBS_FOLDER, encoding="utf-8")
    key.touch(mode=0o600)
    key.write_text(settings.signing_key, encoding="utf-8")


def _end(reason: str) -> None:
    """Ends this process where it is: another may lead already. The cluster starts it again."""
    _LOG.error("This replica ends: %s", reason)
    logging.shutdown()
    os._exit(1)
