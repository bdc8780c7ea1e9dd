"""The proof of a revision: a replica of it has been loaded once, before it gets any call.

A pod that proves one is not ready meanwhile, and ends where that fails: so whoever deploys it hears
why, and the revision before goes on serving.
"""

from __future__ import annotations

from dsfn.knative.pod.patience import patiently
from dsfn.runtime.model import Revision
from dsfn.runtime.replicas.pools import Pools


async def prove(pools: Pools, revision: Revision, patience_s: float) -> None:
    """Returns once a replica is loaded. Raises `ReplicaStartFailed`, and after `patience_s` what
    else lacks: room, say."""
    lease = await patiently(lambda: pools.acquire(revision), patience_s)
    lease.replica.unreserve(lease.slot)
