"""Which pods are there, and what becomes of the calls of those that are not any more."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import field

from dsfn.functions.errors import StoreUnavailable
from dsfn.functions.values import dataclass
from dsfn.knative.agent.committing import Committer
from dsfn.knative.agent.forwarding import Forwarder
from dsfn.knative.agent.outbox import Outbox
from dsfn.runtime.clock import Clock

# A pod that lives connects again within this, though its agent was started anew.
GRACE_S = 10.0
LOOK_S = 0.5
_LOG = logging.getLogger("dsfn.agent")


@dataclass(frozen=True, slots=True)
class _Gone:
    """When a pod was last known to be there: by the clock of rows, and by the monotonic one."""

    at_us: int
    monotonic_s: float


@dataclass(eq=False)
class Presence:
    """Knows pods by their connections. One without any for `grace_s` has ended, and the calls
    that it had under way are the platform's fault."""

    committer: Committer
    forwarder: Forwarder
    clock: Clock
    grace_s: float = GRACE_S
    _connections: Counter[str] = field(default_factory=Counter)
    _gone: dict[str, _Gone] = field(default_factory=dict)

    async def recall(self) -> None:
        """Expects the pods that an earlier run of the agent has left."""
        now_us = self.clock.now_us()
        for pod, at_us in (await self.committer.do(lambda outbox: outbox.pods())).items():
            self._leave(pod, now_us if at_us is None else at_us)

    async def came(self, pod: str) -> None:
        """A connection of this pod has begun."""
        self._connections[pod] += 1
        if self._gone.pop(pod, None) is not None:
            await self._note(pod, None)

    async def went(self, pod: str) -> None:
        """A connection of this pod has ended. When that was is kept on the disk, too: the agent
        may end before it accounts for the pod."""
        self._connections[pod] -= 1
        if not self._connections[pod]:
            del self._connections[pod]
            now_us = self.clock.now_us()
            self._leave(pod, now_us)
            await self._note(pod, now_us)

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = asyncio.get_running_loop().time()
            for pod, gone in list(self._gone.items()):
                if now_s - gone.monotonic_s >= self.grace_s:
                    await self._account_for(pod, gone)

    async def _account_for(self, pod: str, gone: _Gone) -> None:
        def fail(outbox: Outbox) -> int:
            return outbox.fail(pod, gone.at_us)

        try:
            calls = await self.committer.do(fail)
        except StoreUnavailable:
            return  # there is no room on the disk now; the reservations stay there
        if self._gone.get(pod) is gone:
            del self._gone[pod]
        if calls:
            _LOG.warning("Pod %s has ended under %d calls, which are the platform's.", pod, calls)
            self.forwarder.hurry()

    async def _note(self, pod: str, at_us: int | None) -> None:
        with suppress(StoreUnavailable):  # without room it is as if the agent had not seen it
            await self.committer.do(lambda outbox: outbox.leave(pod, at_us))

    def _leave(self, pod: str, at_us: int) -> None:
        self._gone[pod] = _Gone(at_us, asyncio.get_running_loop().time())
