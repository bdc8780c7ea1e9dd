"""Blobs that nothing needs are removed, and no others."""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import apsw
import pytest
from event_node import ManualClock, answer_to, usage_of

from dsfn.billing.sqlite import connect, transaction
from dsfn.runtime import assembly
from dsfn.runtime.answers import Answers
from dsfn.runtime.blobs import BlobStore, digest_of
from dsfn.runtime.blobs import sweep as sweeping
from dsfn.runtime.blobs.sweep import KEEP_S, References, Sweeper
from dsfn.runtime.events.queue import Queue
from dsfn.runtime.events.stored import INLINE_BYTES, StoredBody
from dsfn.runtime.model import Call
from dsfn.runtime.workflows.cache import ResultCache
from dsfn.runtime.workflows.journal import Journal
from dsfn.runtime.workflows.model import Blob

HOUR_S = 3600.0
RUN = """
INSERT INTO runs (id, workflow, revision, state, tenant, caller, digest, pins, inputs,
    started_at_us, body_ref)
VALUES ('r1', 'w', 'w-0000000001', 'succeeded', 'default', '', x'00', '{}', ?, 0, ?)
"""
STEP = "INSERT INTO steps (run, step, path, state, body_ref) VALUES (1, 's', x'', 'succeeded', ?)"


class Place:
    """A node's blobs and its database, with a table of references of a test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root / "blobs"
        self.database = root / "node.db"
        self.blobs = BlobStore(self.root)
        self.connection = connect(self.database, "CREATE TABLE IF NOT EXISTS refs (ref TEXT)")

    def sweeper(self, *owners: References, keep_s: float = KEEP_S) -> Sweeper:
        return Sweeper(self.blobs, self.database, (refs, *owners), keep_s)

    def put(self, data: bytes, hours: float = 0, content_type: str = "text/plain") -> str:
        """Puts a blob that is so old; its digest."""
        digest = digest_of(self.blobs.put(data, content_type))
        self.age(digest, hours)
        return digest

    def age(self, digest: str, hours: float) -> None:
        then = time.time() - hours * HOUR_S
        os.utime(self.root / digest[:2] / digest, (then, then))

    def refer(self, text: str) -> None:
        with transaction(self.connection):
            self.connection.execute("INSERT INTO refs VALUES (?)", (text,))

    def files(self) -> int:
        return sum(path.is_file() for path in self.root.rglob("*"))


def refs(connection: apsw.Connection) -> Iterator[str]:
    return (ref for (ref,) in connection.execute("SELECT ref FROM refs"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.blobs.close()
    made.connection.close()


def test_what_is_old_and_nothing_refers_to_is_removed(place: Place) -> None:
    old, young, needed = place.put(b"old", 25), place.put(b"young", 23), place.put(b"needed", 999)
    place.refer(json.dumps({"$ref": f"blob:sha256:{needed}"}))
    assert place.sweeper().sweep() == 1
    assert not place.blobs.exists(old)
    assert place.blobs.exists(young)
    assert place.blobs.exists(needed)
    assert place.files() == 4, "and the type of what was removed has gone as well"


def test_what_was_asked_for_within_a_day_stays(place: Place) -> None:
    digest = place.put(b"asked for", 25)
    asyncio.run(place.blobs.ensure([digest]))
    assert place.sweeper().sweep() == 0
    assert place.blobs.exists(digest)


def test_what_a_blob_refers_to_goes_after_the_blob(place: Place) -> None:
    inner = place.put(b"inner", 99)
    outer_body = json.dumps({"a": {"$ref": f"blob:sha256:{inner}"}}).encode()
    outer = place.put(outer_body, 99, "application/json")
    place.refer(f"blob:sha256:{outer}")
    assert place.sweeper().sweep() == 0
    with transaction(place.connection):
        place.connection.execute("DELETE FROM refs")
    assert place.sweeper().sweep() == 1
    assert not place.blobs.exists(outer) and place.blobs.exists(inner)
    assert place.sweeper().sweep() == 1
    assert place.files() == 0


def test_what_is_put_again_while_a_sweep_looks_stays(place: Place) -> None:
    digest = place.put(b"again", 25)

    def puts_it_meanwhile(connection: apsw.Connection) -> Iterator[str]:
        place.blobs.put(b"again")
        return iter(())

    assert place.sweeper(puts_it_meanwhile).sweep() == 0
    assert place.blobs.get(digest) == (b"again", "application/octet-stream")


def test_no_blob_that_is_referred_to_is_lost_however_puts_and_sweeps_meet(place: Place) -> None:
    """Threads that put a blob, refer to it for a while and let it go, again and again, while
    sweeps go on that take a blob for old after a twentieth of a second."""
    ends_at = time.monotonic() + 4
    held: set[str] = set()
    lost: list[str] = []

    def holder(number: int) -> None:
        data = f"blob {number}".encode()
        luck = random.Random(number)
        while time.monotonic() < ends_at:
            ref = place.blobs.put(data)
            held.add(ref)
            time.sleep(luck.random() * 0.2)
            if not place.blobs.exists(digest_of(ref)):
                lost.append(ref)
            held.discard(ref)
            time.sleep(luck.random() * 0.2)

    threads = [threading.Thread(target=holder, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    removed = 0
    while time.monotonic() < ends_at:
        removed += place.sweeper(lambda connection: list(held), keep_s=0.05).sweep()
    for thread in threads:
        thread.join()
    assert not lost
    assert removed > 8, "most were removed between two puts"


def test_a_sweep_takes_many_blobs_in_bounded_shares(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "MAX_CANDIDATES", 7)
    needed = [place.put(f"needed {n}".encode(), 99) for n in range(10)]
    for n in range(40):
        place.put(f"garbage {n}".encode(), 99)
    looks = []

    def counting(connection: apsw.Connection) -> Iterator[str]:
        looks.append(1)
        return (f"blob:sha256:{digest}" for digest in needed)

    assert place.sweeper(counting).sweep() == 40
    assert len(looks) == 8, "50 blobs, 7 at a time"
    assert all(place.blobs.exists(digest) for digest in needed)


def test_a_database_that_cannot_be_read_costs_no_blob(place: Place) -> None:
    digest = place.put(b"old", 99)

    def fails(connection: apsw.Connection) -> Iterator[str]:
        raise apsw.SQLError("no such table")

    with pytest.raises(apsw.SQLError):
        place.sweeper(fails).sweep()
    assert place.blobs.exists(digest)


def test_every_row_of_a_node_that_refers_to_a_blob_keeps_it(place: Place) -> None:
    clock, connection = ManualClock(), place.connection
    large = b"\x01" * (INLINE_BYTES + 1)
    queue, answers = Queue(connection, place.blobs, clock), Answers(connection, place.blobs, clock)
    results = ResultCache(connection, clock)
    kept: list[str] = []

    def body(name: str) -> bytes:
        kept.append(sha256(name.encode() + large).hexdigest())
        return name.encode() + large

    async def fill() -> None:
        # A large body, a large result, and a small body that refers to a blob.
        await queue.put(Call("c1", "f", body("queued"), "image/png"))
        await queue.put(Call("c2", "g", b"1", "application/json"))
        delivery = queue.claim("g")
        assert delivery is not None
        result = answer_to(delivery.call(b"1", 0, 0), body("result"), "image/png")
        stored = StoredBody(None, place.blobs.put(result.body, "image/png"))
        with transaction(connection):
            queue.succeed("c2", result, stored)
        kept.append(place.put(b"by reference"))
        await queue.put(Call("c3", "h", ref_body(kept[-1]), "application/json"))
        call = Call("c4", "i", b"1", "application/json", idempotency_key="key:4")
        claim = await answers.claim(call)
        await answers.complete(claim, answer_to(call, body("answer"), "image/png"), usage_of(call))
        kept.append(place.put(b"cached"))
        results.put("i-0000000001", b"d", Blob("image/png", 6, None, f"blob:sha256:{kept[-1]}"))

    asyncio.run(fill())
    kept += [place.put(text) for text in (b"input", b"step's result", b"output")]
    inputs = json.dumps({"photo": {"type": "image/png", "size": 5, "ref": ref_to(kept[-3])}})
    Journal(connection)
    with transaction(connection):
        connection.execute(RUN, (inputs, ref_to(kept[-1])))
        connection.execute(STEP, (ref_to(kept[-2]),))
    for digest in kept:
        place.age(digest, 99)
    garbage = place.put(b"garbage", 99)
    sweeper = Sweeper(place.blobs, place.database, assembly.BLOB_OWNERS)
    assert sweeper.sweep() == 1
    assert not place.blobs.exists(garbage)
    assert all(place.blobs.exists(digest) for digest in kept)


def ref_to(digest: str) -> str:
    return f"blob:sha256:{digest}"


def ref_body(digest: str) -> bytes:
    return json.dumps({"image": {"$ref": ref_to(digest)}}).encode()


def test_a_sweeper_that_is_closed_stops_in_the_middle(place: Place) -> None:
    for n in range(20):
        place.put(f"garbage {n}".encode(), 99)

    async def main() -> int:
        sweeper = place.sweeper()
        sweeper.start()
        await sweeper.close()
        return sweeper.sweep()

    assert asyncio.run(main()) == 0
    assert place.files() == 40
