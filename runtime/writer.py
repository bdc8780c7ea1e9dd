"""The one way by which a node writes to its ledger: in order, one thing after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from dsfn.billing.posting_document import Spooled
from dsfn.functions.errors import Conflict

T = TypeVar("T")
# Rows that are posted together or not at all. Asked for when it is their turn, for what they are
# may depend on what became of rows before them.
Bundle = Callable[[], Sequence[Spooled]]
# Writes all of some rows or none, as a ledger does.
Write = Callable[[Sequence[Spooled]], None]


class Writer(Protocol):
    """Does what writes, in the order in which it comes. Belongs to the event loop's thread."""

    def submit(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Has `work` be done, which raises nothing, and `done` be given what came of it, in the
        event loop's thread and before what comes of later work."""

    async def run(self, work: Callable[[], T]) -> T:
        """What comes of `work`, or what it raises."""

    async def close(self) -> None:
        """Returns when all is done."""


class InlineWriter:
    """For SQLite, which takes less for a commit than it takes to wait: in a thread of its own
    each statement would have to get the interpreter's lock back from the event loop."""

    def submit(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """See `Writer`."""
        done(work())

    async def run(self, work: Callable[[], T]) -> T:
        """See `Writer`."""
        return work()

    async def close(self) -> None:
        """Nothing is left to do."""


class ThreadWriter:
    """For a server: while one answers late, or not at all, the event loop does all else."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    def submit(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """See `Writer`."""
        loop = asyncio.get_running_loop()

        def tell(came: Future[T]) -> None:
            loop.call_soon_threadsafe(done, came.result())

        self._thread.submit(work).add_done_callback(tell)

    async def run(self, work: Callable[[], T]) -> T:
        """See `Writer`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Returns when all is done."""
        await asyncio.to_thread(self._thread.shutdown)


def alone(row: Spooled) -> Bundle:
    """A row by itself."""
    return lambda: (row,)


def tried(post: Write, rows: Sequence[Spooled]) -> Exception | None:
    """Posts rows, all or none; why not, where they were not."""
    try:
        post(rows)
    except Exception as error:  # noqa: BLE001
        # Whoever waits for these rows raises it.
        return error
    return None


def post_apart(post: Write, bundles: Sequence[Bundle]) -> list[Exception | None]:
    """Posts bundles in one commit, or, where one is refused and the others must not suffer for
    it, each in its own; what came of each."""
    parts = [bundle() for bundle in bundles]
    error = tried(post, [row for part in parts for row in part])
    if isinstance(error, Conflict) and len(parts) > 1:
        return [tried(post, part) for part in parts]
    return [error] * len(parts)
