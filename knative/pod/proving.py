"""The proof of a revision: a replica of it has been loaded once, before it gets any call.

A pod that proves one is not ready meanwhile, and ends where that fails: so whoever deploys it hears
why, and the revision before goes on serving.
"""

from __future__ import annotations

import asyncio
import logging

from dsfn.functions.errors import ReplicaStartFailed, Unavailable
from dsfn.runtime.model import Revision
from dsfn.runtime.replicas.pools import Pools

_AGAIN_S = 1.0
_LOG = logging.getLogger("dsfn.pod")


async def prove(pools: Pools, revision: Revision, patience_s: float) -> None:
    """Returns once a replica is loaded. Raises `ReplicaStartFailed`, and after `patience_s` what
    else lacks: room, say."""
    loop = asyncio.get_running_loop()
    ends_at_s = loop.time() + patience_s
    while True:
        try:
            lease = await pools.acquire(revision)
        except ReplicaStartFailed:
            raise
        except Unavailable as error:
            # It takes its time, or lacks what is not the function's to have, and may have it later.
            if loop.time() >= ends_at_s:
                raise
            _LOG.warning("%s", error.message)
            await asyncio.sleep(_AGAIN_S)
        else:
            lease.replica.unreserve(lease.slot)
            return
