"""Whose doing it is that the connection of a call breaks: its caller's, who may leave, or that of
the platform, which ends a pod and the queue-proxy before it.

The two containers are ended side by side, so that either may be first. Callers leave by way of a
queue-proxy that goes on: where it does not answer any more, they have not left.
"""

from __future__ import annotations

import asyncio

from dsfn.functions.errors import ReplicaLost
from dsfn.functions.values import dataclass

# It answers at once; one that lives and has no time for it is taken to live.
_ANSWER_S = 1.0
_QUESTION = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_RETRY_AFTER_S = 1.0


@dataclass(eq=False)
class Ending:
    """`proxy_port`: of queue-proxy's own, 0 where nothing is between callers and the pod; `told`:
    whether the pod was told to end."""

    proxy_port: int
    told: bool = False

    async def lost(self) -> ReplicaLost | None:
        """Asked when a connection has just broken: what its call failed for if the platform has
        lost it, None if its caller has left."""
        proxy_lives = self.told or await self._proxy_lives()
        if self.told:
            return _lost("its pod was told to end")
        return None if proxy_lives else _lost("the queue-proxy of its pod has ended")

    async def _proxy_lives(self) -> bool:
        """That it takes a connection is not enough: one that is killed has its sockets closed one
        after the other."""
        if not self.proxy_port:
            return True
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy_port)
                try:
                    writer.write(_QUESTION)
                    return bool(await reader.read(1))
                finally:
                    writer.close()
        except ConnectionError:
            return False
        except OSError:  # TimeoutError is one, too
            return True


def _lost(reason: str) -> ReplicaLost:
    return ReplicaLost(
        f"The connection of the call broke: {reason}.",
        reason=reason,
        retry_after_s=_RETRY_AFTER_S,
    )
