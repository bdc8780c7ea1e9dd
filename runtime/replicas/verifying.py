"""Whether the weights that replicas have in memory are still those that were captured."""

from __future__ import annotations

import logging

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.model import ReplicaState
from dsfn.runtime.replicas.replica import Replica
from dsfn.runtime.worker.messages import CheckedSlab

_LOG = logging.getLogger("dsfn.replicas")
_IN_MEMORY = (ReplicaState.READY, ReplicaState.BUSY)


@dataclass(frozen=True, slots=True)
class VerifiedReplica:
    """What was found of a replica that was in `state`. Without `slabs` there was nothing to
    compare: it is parked, say, or `setup()` has loaded it. `reason`: why it is not intact, or
    why nobody knows."""

    pid: int
    revision: str
    state: ReplicaState
    slabs: tuple[CheckedSlab, ...] = ()
    check_us: int = 0
    reason: str | None = None

    @property
    def is_intact(self) -> bool | None:
        """Whether all slabs are; None without any."""
        return all(slab.is_intact for slab in self.slabs) if self.slabs else None


async def verify_replica(replica: Replica) -> VerifiedReplica:
    """Looks at a replica when its turn comes. One whose weights are not intact has ended then,
    and so has one that could not tell."""
    pid, revision, state = replica.worker.pid, replica.revision.id, replica.state
    if state not in _IN_MEMORY:
        return VerifiedReplica(pid, revision, state)
    try:
        checked = await replica.check()
    except (DsfnError, OSError) as error:
        reason = _why_unknown(error, replica)
        _LOG.warning("%s: the weights of replica %d were not checked. %s", revision, pid, reason)
        return VerifiedReplica(pid, revision, state, reason=reason)
    if checked.is_intact:
        return VerifiedReplica(pid, revision, state, checked.slabs, checked.check_us)
    changed = ", ".join(slab.device for slab in checked.slabs if not slab.is_intact)
    reason = f"Its weights in the memory of {changed} are not those that were captured."
    _LOG.warning("%s: replica %d is ended. %s", revision, pid, reason)
    return VerifiedReplica(pid, revision, state, checked.slabs, checked.check_us, reason)


def _why_unknown(error: DsfnError | OSError, replica: Replica) -> str:
    if isinstance(error, DsfnError):
        return error.message
    if isinstance(error, TimeoutError):
        return f"It did not answer within {replica.limits.start_timeout_s:g} s."
    return "It ended meanwhile."
