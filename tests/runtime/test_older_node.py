"""The database of a node from before there were tenants and keys is taken over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
from event_node import EventNode, ManualClock, number_event

from dsfn.runtime.events.queue import Queue
from dsfn.runtime.events.results import event_body
from dsfn.runtime.events.stored import request_digest
from dsfn.runtime.model import Answer, Call, Payer
from dsfn.runtime.workflows.journal import Journal


async def nobody(call: Call) -> Answer:
    raise NotImplementedError


def without_keys(connection: apsw.Connection, table: str) -> None:
    """Makes a table what it was before its rows had keys."""
    connection.execute(f"ALTER TABLE {table} DROP COLUMN key_id")


def test_deliveries_and_runs_of_an_older_node_have_no_key(tmp_path: Path) -> None:
    async def main() -> None:
        clock = ManualClock()
        node = EventNode(tmp_path, clock, nobody)
        Journal(node.connection)
        node.deploy("echo")
        await node.queue.put(Call("a", "echo", b"1", "application/json", tenant="acme"))
        for table in ("deliveries", "runs"):
            without_keys(node.connection, table)
        Journal(node.connection)
        queue = Queue(node.connection, node.blobs, clock)
        await queue.put(Call("b", "echo", b"2", "application/json", tenant="acme", key_id="k"))
        found = [queue.claim("echo"), queue.claim("echo")]
        assert [d.payer for d in found if d] == [Payer("acme"), Payer("acme", "k")]
        assert queue.get("b").tenant == "acme"
        node.close()

    asyncio.run(main())


def test_events_that_an_older_node_accepted_are_still_known(tmp_path: Path) -> None:
    async def main() -> None:
        clock, event = ManualClock(), number_event(1)
        node = EventNode(tmp_path, clock, nobody)
        digest = request_digest("application/cloudevents+json", event_body(event))
        node.connection.execute(
            "CREATE TABLE events (source TEXT, id TEXT, digest BLOB, accepted_at_us INTEGER,"
            " PRIMARY KEY (source, id)) WITHOUT ROWID"
        )
        node.connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?)",
            (event.source, event.id, digest, clock.now_us()),
        )
        node.close()
        node = EventNode(tmp_path, clock, nobody)
        assert await node.router.accept([event]) == 0
        rows = node.connection.execute("SELECT tenant, id FROM accepted_events").fetchall()
        assert rows == [("default", event.id)]
        assert not node.connection.table_exists("main", "events")
        node.close()

    asyncio.run(main())
