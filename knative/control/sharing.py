"""Calls and events of functions, shared out in the cluster as the registry says.

Functions are seen to side by side: one whose Service does not become ready holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import TypeVar

from dsfn.functions.errors import DsfnError, Unavailable
from dsfn.functions.values import dataclass
from dsfn.knative.control.function_services import FunctionServices, Share
from dsfn.knative.control.known import KnownFunctions
from dsfn.runtime.model import Revision
from dsfn.runtime.waiting import doubled_s

# How long a change of the traffic may take until it is waited for no longer.
SHARE_S = 30.0
# Requests to the API server at once, in threads that nothing else waits for.
_AT_ONCE = 4
# How often it is looked whether a Service is ready: at first, and by and by.
_LOOK_S, _LATE_LOOK_S = 0.1, 1.0
_LOOKS = 8
_RETRY_AFTER_S = 5.0
_T = TypeVar("_T")
_LOG = logging.getLogger("dsfn.control")


@dataclass(eq=False)
class Sharing:
    """Has the cluster agree with what is wanted of it, each function by a task of its own."""

    services: FunctionServices
    known: KnownFunctions
    # None for one that is to be taken out.
    _wanted: dict[str, Share | None] = field(default_factory=dict)
    _agreed: dict[str, Share] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    # Of which something else is wanted than before, which nobody has waited for yet.
    _fresh: set[str] = field(default_factory=set)
    # Told when the cluster has been.
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sharing")
    )

    async def load(self) -> None:
        """Reads what the cluster has. Raises `ClusterError`."""
        await self._ask(self.services.load)
        await self._tell_of_change()

    async def close(self) -> None:
        """Leaves the cluster as it is."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def agree(
        self, shares: Mapping[str, Share], registered: Collection[str], kept: Collection[str]
    ) -> None:
        """Begins to have calls be shared out so, by function, and to take out those that are
        neither `registered` any more nor `kept`. What has failed begins again. Raises
        `StoreUnavailable`."""
        self.known.add(registered)
        gone = self.known.beside(registered, kept)
        before, self._wanted = self._wanted, {**shares, **dict.fromkeys(gone)}
        for function, wanted in self._wanted.items():
            if not self._is_so(function) and function not in self._tasks:
                self._tasks[function] = asyncio.create_task(self._see_to(function))
            if function in self._tasks and (function not in before or before[function] != wanted):
                self._fresh.add(function)

    def fresh(self) -> list[asyncio.Task[None]]:
        """What is under way because of a change, unless it was given before."""
        tasks = [self._tasks[each] for each in self._fresh]
        self._fresh.clear()
        return tasks

    def forget(self, function: str) -> None:
        """Has the cluster be told of a function again: it may not have what was agreed."""
        self._agreed.pop(function, None)
        self._wanted.pop(function, None)

    async def removed(self, function: str) -> None:
        """Returns once a function that is being taken out is asked for no more."""
        if self._wanted.get(function) is None and (task := self._tasks.get(function)) is not None:
            await asyncio.wait([task])

    async def address(self, revision: Revision) -> str:
        """The URL at which a revision is called, which one that has just become live has once the
        ingress knows of it. Raises `Unavailable` when that takes too long."""
        try:
            async with asyncio.timeout(SHARE_S):
                while (address := self.services.address(revision)) is None:
                    async with self._changed:
                        await self._changed.wait()
                return address
        except TimeoutError:
            message = f"The cluster has not been told of {revision.id} yet."
            raise Unavailable(message, retry_after_s=_RETRY_AFTER_S) from None

    def _is_so(self, function: str) -> bool:
        """Whether the cluster has what is wanted of a function, if anything is."""
        if function not in self._wanted:
            return True
        wanted = self._wanted[function]
        return wanted is not None and self._agreed.get(function) == wanted

    async def _see_to(self, function: str) -> None:
        """Returns once the cluster agrees, or when it has not taken what is still wanted."""
        try:
            while not self._is_so(function):
                wanted = self._wanted[function]
                is_taken = await self._try(function, wanted)
                if not is_taken and self._wanted.get(function) == wanted:
                    break
        finally:
            del self._tasks[function]
            self._fresh.discard(function)

    async def _try(self, function: str, wanted: Share | None) -> bool:
        """Whether the cluster has taken it."""
        try:
            if wanted is None:
                await self._remove(function)
            else:
                await self._share(function, wanted)
        except DsfnError as error:
            _LOG.warning("%s is not in the cluster as it should be: %s", function, error.message)
            return False
        except Exception:  # noqa: BLE001
            # Whatever it was, the cluster is to agree all the same once it is over.
            _LOG.exception("%s may not be in the cluster as it should be.", function)
            return False
        return True

    async def _share(self, function: str, share: Share) -> None:
        """Returns when the cluster agrees, or something else is wanted. Raises `NotReady`,
        `ClusterError`, `NotFound`."""
        # Once it is told something else, the cluster has what was agreed before no more.
        self._agreed.pop(function, None)
        await self._ask(self.services.tell, share)
        looks, end_s = 0, asyncio.get_running_loop().time() + SHARE_S
        while not await self._ask(self.services.is_ready, share):
            if self._wanted.get(function) != share:
                return
            if asyncio.get_running_loop().time() >= end_s:
                await self._ask(self.services.require_ready, share)
                break
            await asyncio.sleep(doubled_s(_LOOK_S, looks // _LOOKS, _LATE_LOOK_S))
            looks += 1
        self._agreed[function] = share
        await self._tell_of_change()

    async def _remove(self, function: str) -> None:
        await self._ask(self.services.remove, function)
        self._agreed.pop(function, None)
        # It may have come again meanwhile.
        if function in self._wanted and self._wanted[function] is None:
            del self._wanted[function]
            self.known.discard(function)

    async def _ask(self, request: Callable[..., _T], *arguments: object) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, request, *arguments)

    async def _tell_of_change(self) -> None:
        async with self._changed:
            self._changed.notify_all()
