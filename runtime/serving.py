"""What has deployed functions be there for calls: the pools of a node, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dsfn.functions.interface import FilterInterface
from dsfn.functions.values import dataclass
from dsfn.runtime.model import ReplicaState, Revision
from dsfn.runtime.replicas.verifying import VerifiedReplica

# Told of a function by its name, in a sentence.
Tell = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What `describe` shows of one replica: of one in a pod that pod's name, of one on this machine
    its process, and how long it has had nothing to do."""

    revision: str
    state: ReplicaState
    pid: int | None = None
    idle_s: float | None = None
    pod: str | None = None


class Serving(Protocol):
    """Keeps to what the registry says serves."""

    @property
    def outlives_node(self) -> bool:
        """Whether replicas go on without the node: their leases are then not its to close."""

    def start(self) -> None:
        """Starts the background work, and what must always be there."""

    async def close(self) -> None:
        """Ends what runs here."""

    def cut_off(self) -> None:
        """Ends every call that runs or waits here, since nobody will wait for it any longer."""

    async def bring_up(self, revisions: Sequence[Revision], tell: Tell) -> None:
        """Has revisions be ready that are about to be deployed: all, or none. What serves goes on
        until `reconcile`. Raises the tree's errors."""

    async def reconcile(self) -> None:
        """Makes what serves agree with the registry."""

    def retire(self) -> None:
        """Lets go, before long, of what serves no more."""

    def require_filter(self, filter_: FilterInterface, function: str) -> None:
        """Raises `DefinitionError` where events for a function cannot be chosen so."""

    def url(self, function: str, here: str) -> str | None:
        """Where a function is called: itself, or `here`, at this node. None where it is not known
        to be served."""

    def state(self, function: str) -> ReplicaState:
        """The state of the function's liveliest replica."""

    def replicas(self, function: str) -> list[ReplicaView]:
        """The replicas of a function, of every revision."""

    def counts(self) -> dict[tuple[str, str], int]:
        """Replicas by function and state."""

    def queue_depths(self) -> dict[str, int]:
        """Calls that wait for a replica, by function."""

    def spares(self) -> list[int]:
        """For each GPU, how many workers wait for a function."""

    def snapshots(self) -> frozenset[str]:
        """The digests of the snapshots on this machine that replicas have."""

    async def rest(self, function: str, to: ReplicaState) -> int:
        """Has the function's idle replicas give up what they hold; how many did."""

    async def verify(self, function: str) -> list[VerifiedReplica]:
        """Compares what the function's replicas have in memory with what was captured."""
