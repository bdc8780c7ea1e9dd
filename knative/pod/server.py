"""A pod's server, and how it ends: late requests are served, then it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.config import Config

from dsfn.knative.pod.front import Front
from dsfn.runtime.gateway.serving import SignalledServer

# The pod has been told to end, and yet queue-proxy goes on sending what was on its way: it is over
# when nothing has come for so long.
QUIET_S = 1.0
_LOOK_S = 0.05


class PodServer(SignalledServer):
    """Stops once nobody needs it any more, or `patience_s` after it was told to."""

    def __init__(
        self,
        config: Config,
        front: Front,
        cut_off: Callable[[], None],
        patience_s: float,
    ) -> None:
        super().__init__(config)
        self._front = front
        self._cut_off = cut_off
        self._patience_s = patience_s
        self._drain: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Drains, once."""
        self._front.ending.told = True
        if self._drain is None:
            self._drain = asyncio.create_task(self._drained())

    async def _drained(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = quiet_since_s = loop.time()
        ends_at_s, served = now_s + self._patience_s, self._front.served
        while now_s < ends_at_s and now_s < quiet_since_s + QUIET_S:
            await asyncio.sleep(_LOOK_S)
            now_s = loop.time()
            if self._front.in_flight or self._front.served != served:
                quiet_since_s, served = now_s, self._front.served
        self.should_exit = True
        if self._front.in_flight:
            self._cut_off()
