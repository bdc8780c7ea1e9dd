"""First answers: a call with an idempotency key runs once, and its repeats get its answer.

A key goes from *claimed* to *done*. It is done once the answer is stored together
with its usage row; only then is that row posted to the ledger, which is another
database. A crash before that leaves a claim that nobody holds: the next call with
the key runs. A crash after it leaves an answer whose row is `unposted`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import apsw

from dsfn.billing.sqlite import load_queries, transaction
from dsfn.billing.usage import Usage
from dsfn.functions import errors
from dsfn.functions.errors import DsfnError, IdempotencyMismatch, StorageFull, Unavailable
from dsfn.functions.values import dataclass
from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.clock import Clock
from dsfn.runtime.events.sameness import same_digest
from dsfn.runtime.events.stored import (
    INLINE_BYTES,
    StoredBody,
    answer_document,
    load_body,
    read_answer,
    store_body,
)
from dsfn.runtime.model import EVENT_KEY, Answer, Call, shown_key
from dsfn.runtime.sealing import Plain, Sealed

# July and August: a key outlives its own month and the next, in which that is corrected.
KEEP_KEYS_S = 62 * 24 * 3600
WAIT_S = 300.0
_STILL_RUNNING_RETRY_AFTER_S = 1.0
_PRUNE_ROWS = 1000
_QUERIES = load_queries("dsfn.runtime", "sql/answers.sql")
_PLAIN = Plain()
_LOG = logging.getLogger("dsfn.answers")

# The function ran and this came of it; a repeat must not run it again.
_OWN_WORD = (
    errors.RequestError,
    errors.HandlerRaised,
    errors.HandlerTimedOut,
    errors.OutOfMemory,
    errors.OutputTooLarge,
)

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """What `Answers.claim` found: the first answer, or, when `answer` is None, the right to run.

    `call_id`: the invocation id of the run. `unposted`: the usage row of the first
    answer when it may not be in the ledger yet; post it before answering.
    """

    key: Key
    call_id: str
    answer: Answer | None = None
    unposted: Usage | None = None


@dataclass(eq=False, slots=True)
class _Running:
    """A claim that is held in this process."""

    digest: bytes
    over: asyncio.Event


class Answers:
    """The first answers of a node, on its database. Belongs to the event loop's thread. `rows`: how
    usage rows are written there."""

    def __init__(
        self,
        connection: apsw.Connection,
        blobs: BlobStore,
        clock: Clock,
        rows: Plain | Sealed = _PLAIN,
    ) -> None:
        self._connection = connection
        self._rows = rows
        self._blobs = blobs
        self._clock = clock
        self._running: dict[Key, _Running] = {}
        with transaction(connection):
            connection.execute(_QUERIES["schema"])

    async def claim(self, call: Call, wait_s: float = WAIT_S) -> Claim:
        """The right to run `call`, or the first answer to its key.

        Waits up to `wait_s` while the first call still runs. Raises the function's
        own error when that was the first answer, `IdempotencyMismatch` when the key
        came with another request (see `same_digest`), `Unavailable` when the wait was
        too long, `StorageFull`.
        """
        assert call.idempotency_key is not None
        key = (call.tenant, call.function, call.idempotency_key)
        digest = same_digest(call.content_type, call.body)
        try:
            async with asyncio.timeout(wait_s):
                while (running := self._running.get(key)) is not None:
                    _require_same(key, running.digest, digest)
                    await running.over.wait()
        except TimeoutError:
            raise Unavailable(
                "The first call with this idempotency key still runs.",
                retry_after_s=_STILL_RUNNING_RETRY_AFTER_S,
            ) from None
        # No await from here to `_running`: two calls cannot both find the key free.
        row = self._take(key, digest)
        if row is None:
            self._running[key] = _Running(digest, asyncio.Event())
            return Claim(key, call.id)
        return await self._first(key, row)

    async def complete(self, claim: Claim, answer: Answer, usage: Usage) -> None:
        """Stores the first answer with its usage row, which may be posted from then on.

        Raises `StorageFull`, `StoreUnavailable`; the key is then free again.
        """
        try:
            if len(answer.body) <= INLINE_BYTES:
                self._store(claim, answer, StoredBody(answer.body), usage)
                return
            keeping = asyncio.create_task(self._keep(claim, answer, usage))
            try:
                await asyncio.shield(keeping)
            except asyncio.CancelledError:
                # The caller goes, but the call has run: its answer must not be lost on the way.
                await keeping
                raise
        finally:
            self._leave(claim)

    def refuse(self, claim: Claim, error: DsfnError) -> None:
        """Ends a claim whose call failed.

        What the function came to is the first answer. When nobody can say what it came to
        (its process ended), or it could not be run (no replica, no room), the key is free. So it
        is when an event failed: who sends it again wants it tried again.
        """
        if claim.key[2].startswith(EVENT_KEY) or not isinstance(error, _OWN_WORD):
            self.release(claim)
            return
        try:
            with transaction(self._connection) as connection:
                document = json.dumps(error.to_document(), default=str)
                connection.execute(_QUERIES["refuse"], (*claim.key, document))
        finally:
            self._leave(claim)

    def release(self, claim: Claim) -> None:
        """Frees the key: nothing that is worth keeping came of the call."""
        try:
            with transaction(self._connection) as connection:
                connection.execute(_QUERIES["release"], claim.key)
        except StorageFull:
            # A claim that nobody holds is as free as none, and the caller's own error matters.
            _LOG.warning("A claim of %s stays on the full disk.", claim.key[1])
        finally:
            self._leave(claim)

    def unposted(self) -> Iterator[tuple[Key, Usage]]:
        """The usage rows, with their keys, that the ledger may not have: post them at start."""
        rows: list[Any] = self._connection.execute(_QUERIES["unposted"]).fetchall()
        for tenant, function, key, text in rows:
            if (usage := self._own(text)) is not None:
                yield (tenant, function, key), usage

    def posted(self, keys: Iterable[Key]) -> None:
        """Notes that the ledger has the rows of these keys. Raises `StorageFull`."""
        with transaction(self._connection) as connection:
            for key in keys:
                connection.execute(_QUERIES["posted"], key)

    def prune(self) -> int:
        """Drops some of the keys that are older than they are kept; gives their number."""
        before_us = self._clock.now_us() - KEEP_KEYS_S * 1_000_000
        with transaction(self._connection) as connection:
            connection.execute(_QUERIES["prune"], (before_us, _PRUNE_ROWS))
            return connection.changes()

    def _take(self, key: Key, digest: bytes) -> tuple[Any, ...] | None:
        """Claims a free key, or gives the row of one that is done."""
        with transaction(self._connection) as connection:
            row = connection.execute(_QUERIES["select"], key).fetchone()
            if row is not None:
                _require_same(key, row[0], digest)
                return row if row[1] else None
            connection.execute(_QUERIES["claim"], (*key, digest, self._clock.now_us()))
        return None

    async def _keep(self, claim: Claim, answer: Answer, usage: Usage) -> None:
        body = await store_body(self._blobs, answer.body, answer.content_type)
        self._store(claim, answer, body, usage)

    def _store(self, claim: Claim, answer: Answer, body: StoredBody, usage: Usage) -> None:
        document, row = json.dumps(answer_document(answer)), self._rows.text(usage)
        with transaction(self._connection) as connection:
            connection.execute(
                _QUERIES["complete"], (*claim.key, document, body.inline, body.ref, row)
            )

    async def _first(self, key: Key, row: tuple[Any, ...]) -> Claim:
        _, _, document, error, inline, ref, usage, posted = row
        if error is not None:
            first = errors.from_document(json.loads(error))
            first.add_fields(replayed=True)
            raise first
        body = await load_body(self._blobs, StoredBody(inline, ref))
        answer = replace(read_answer(json.loads(document), body), replayed=True)
        unposted = None if posted else self._own(usage)
        return Claim(key, answer.call_id, answer, unposted)

    def _own(self, text: str) -> Usage | None:
        row = self._rows.usage(text)
        if row is None:
            _LOG.warning("A usage row was written by somebody else, and is not posted.")
        return row

    def _leave(self, claim: Claim) -> None:
        self._running.pop(claim.key).over.set()


def blobs_of_answers(connection: apsw.Connection) -> Iterator[str]:
    """The blobs that first answers are in, read on any connection to the node's database."""
    return (ref for (ref,) in connection.execute(_QUERIES["references"]))


def _require_same(key: Key, first: bytes, digest: bytes) -> None:
    if first != digest:
        shown = shown_key(key[2])
        raise IdempotencyMismatch(
            f"The idempotency key {shown!r} came before with another request.", key=shown
        )
