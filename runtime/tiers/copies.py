"""Copies of snapshots between the disk and the store, in threads; each at most once at a time."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import field
from typing import Literal, TypeVar

from dsfn.functions.errors import NotFound, ShuttingDown, StoreUnavailable
from dsfn.functions.values import dataclass
from dsfn.snapshots.store import FileStore, SnapshotStore
from dsfn.snapshots.transfer import Transfer

MAX_PULLS = 2
MAX_PUSHES = 1
MAX_QUESTIONS = 2
ANSWER_TIMEOUT_S = 25.0

T = TypeVar("T")

Direction = Literal["pull", "push"]


@dataclass(eq=False, slots=True)
class _Copy:
    """`waiters` are those who want it; when the last goes away it is stopped."""

    task: asyncio.Task[None] = field(init=False)
    transfer: Transfer | None = None
    waiters: int = 0

    def stop(self, error: ShuttingDown | None = None) -> None:
        """Ends it, whether it runs or waits for its turn."""
        if self.transfer is not None:
            self.transfer.stop(error)
        else:
            self.task.cancel()


@dataclass(eq=False)
class Copies:
    """The copies of a node. Whoever wants one that is under way waits for that one."""

    files: FileStore
    store: SnapshotStore
    timeout_s: float
    _copies: dict[tuple[Direction, str], _Copy] = field(default_factory=dict)
    _turns: dict[Direction, asyncio.Semaphore] = field(init=False)
    _threads: ThreadPoolExecutor = field(init=False)
    _askers: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._turns = {
            "pull": asyncio.Semaphore(MAX_PULLS),
            "push": asyncio.Semaphore(MAX_PUSHES),
        }
        self._threads = ThreadPoolExecutor(MAX_PULLS + MAX_PUSHES, "snapshot-copy")
        self._askers = ThreadPoolExecutor(MAX_QUESTIONS, "snapshot-question")

    async def pull(self, digest: str) -> None:
        """Brings a snapshot from the store to the disk, in the place of what is there.

        Raises `NotFound`, `CorruptSnapshot`, `StoreUnavailable`, `StorageFull`.
        """
        await self._join("pull", digest, self._pull)

    async def push(self, digest: str) -> None:
        """Brings a snapshot from the disk to the store. Raises as `pull`."""
        await self._join("push", digest, self._push)

    async def ask(self, question: Callable[[SnapshotStore], T]) -> T:
        """What the store says. Raises what the question does, `StoreUnavailable` when it takes
        too long."""
        asked = asyncio.get_running_loop().run_in_executor(self._askers, question, self.store)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await asked
        except TimeoutError:
            raise StoreUnavailable(
                f"The store did not answer within {ANSWER_TIMEOUT_S:g} s.",
                reason="timeout",
                retry_after_s=10,
            ) from None

    def progress(self, direction: Direction, digest: str) -> Transfer | None:
        """The copy that is under way, if there is one that has begun."""
        copy = self._copies.get((direction, digest))
        return copy.transfer if copy is not None else None

    async def close(self) -> None:
        """Ends every copy, and waits until its threads have seen that."""
        copies = list(self._copies.values())
        for copy in copies:
            copy.stop(ShuttingDown("The node is shutting down.", retry_after_s=5))
        await asyncio.gather(*(copy.task for copy in copies), return_exceptions=True)
        await asyncio.to_thread(self.store.close)
        for threads in (self._threads, self._askers):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _join(
        self, direction: Direction, digest: str, work: Callable[[str, Transfer], None]
    ) -> None:
        key = (direction, digest)
        copy = self._copies.get(key)
        if copy is None:
            copy = self._copies[key] = _Copy()
            copy.task = asyncio.create_task(self._run(key, copy, work))
            # It may be stopped when nobody waits for it any more.
            copy.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        copy.waiters += 1
        try:
            await asyncio.shield(copy.task)
        except asyncio.CancelledError:
            if copy.task.cancelled():  # by the last waiter before this one, or by `close`
                raise StoreUnavailable(
                    "The copy of the snapshot was stopped.", reason="stopped", retry_after_s=1
                ) from None
            raise
        finally:
            copy.waiters -= 1
            if copy.waiters == 0 and not copy.task.done():
                self._copies.pop(key, None)
                copy.stop()

    async def _run(
        self, key: tuple[Direction, str], copy: _Copy, work: Callable[[str, Transfer], None]
    ) -> None:
        direction, digest = key
        try:
            async with self._turns[direction]:
                copy.transfer = Transfer(self.timeout_s)
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._threads, work, digest, copy.transfer)
        finally:
            if self._copies.get(key) is copy:
                del self._copies[key]

    def _pull(self, digest: str, transfer: Transfer) -> None:
        staging = self.files.stage()
        try:
            self.store.pull(digest, staging, transfer)
            with suppress(NotFound):
                self.files.delete(digest)
            self.files.publish(staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _push(self, digest: str, transfer: Transfer) -> None:
        self.store.push(self.files.path(digest), transfer)
