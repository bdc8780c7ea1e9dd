"""Changes of the outbox, committed in groups: all that come up while one commit waits for the disk
go with the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from dsfn.functions.errors import StorageFull
from dsfn.functions.values import dataclass
from dsfn.knative.agent.outbox import Outbox, full

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Change:
    work: Callable[[Outbox], Any]
    done: asyncio.Future[Any]


@dataclass(eq=False)
class Committer:
    """The outbox, in its thread."""

    outbox: Outbox
    _thread: ThreadPoolExecutor
    _waiting: list[_Change] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, path: Path, max_rows: int, max_bytes: int) -> Committer:
        """Opens or makes the file. Raises `StorageFull`, `UsageError`."""
        thread = ThreadPoolExecutor(1, "outbox")
        outbox = thread.submit(Outbox, path, max_rows, max_bytes).result()
        return cls(outbox, thread)

    async def do(self, work: Callable[[Outbox], T]) -> T:
        """What comes of `work`, once that is on the disk. Raises what it does, and
        `StoreUnavailable` when the disk has no room."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Change(work, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._commit_all())
        return await done

    async def close(self) -> None:
        """Returns when all is done."""
        if self._task is not None:
            await self._task
        await asyncio.get_running_loop().run_in_executor(self._thread, self.outbox.close)
        self._thread.shutdown()

    async def _commit_all(self) -> None:
        while self._waiting:
            changes, self._waiting = self._waiting, []
            came = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._commit, changes
            )
            for change, result in zip(changes, came, strict=True):
                if change.done.done():
                    continue  # who asked has gone
                if isinstance(result, BaseException):
                    change.done.set_exception(result)
                else:
                    change.done.set_result(result)

    def _commit(self, changes: list[_Change]) -> list[Any]:
        works = [partial(change.work, self.outbox) for change in changes]
        try:
            return self.outbox.together(works)
        except StorageFull:
            return [full()] * len(changes)
        except Exception as error:  # noqa: BLE001
            # Whoever waits for these changes raises it.
            return [error] * len(changes)
