"""What a function's pod has of its node's disk: volumes, or a limit that it holds itself to."""

from __future__ import annotations

from dsfn.functions.values import dataclass
from dsfn.knative.manifests.resources import snapshot_bytes
from dsfn.knative.manifests.words import AGENT_CLAIM, AGENT_DIRECTORY, AGENT_SOCKET, Manifest
from dsfn.runtime.model import Revision

_TMP_BYTES = 2 << 30
# Beside the snapshot: the bundle, and the packages of its requirements.
_BUNDLE_BYTES = 8 << 30
_AGENT = {"name": "agent", "readOnly": True}
_AGENT_VOLUME = {
    "name": "agent",
    "persistentVolumeClaim": {"claimName": AGENT_CLAIM, "readOnly": True},
}


@dataclass(frozen=True, slots=True)
class Disk:
    """`env`: variables of the container; `mounts`: of its volumes; `volumes`: the pod's."""

    env: tuple[Manifest, ...]
    mounts: tuple[Manifest, ...] = ()
    volumes: tuple[Manifest, ...] = ()


def disk_of(revision: Revision, agent: str) -> Disk:
    """That of a revision's pods. `agent`: where one without volumes asks the agent of its node, ""
    where nodes have none.

    There are no volumes where there is no snapshot: the kubelet waits a third of a second until it
    looks whether they are mounted, and the image has directories that a container writes to.
    """
    if revision.snapshot is None:
        limit = {"name": "DSFN_DISK_BYTES", "value": str(_TMP_BYTES + _BUNDLE_BYTES)}
        return Disk((limit, *_agent_at(agent)))
    size_bytes = _BUNDLE_BYTES + snapshot_bytes(revision)
    mounts = ({"name": "tmp", "mountPath": "/tmp"}, {"name": "dsfn", "mountPath": "/dsfn"})
    volumes = (
        {"name": "tmp", "emptyDir": {"sizeLimit": str(_TMP_BYTES)}},
        {"name": "dsfn", "emptyDir": {"sizeLimit": str(size_bytes)}},
    )
    if not agent:
        return Disk((), mounts, volumes)
    return Disk(
        _agent_at(AGENT_SOCKET),
        (*mounts, {**_AGENT, "mountPath": AGENT_DIRECTORY}),
        (*volumes, _AGENT_VOLUME),
    )


def _agent_at(address: str) -> tuple[Manifest, ...]:
    return ({"name": "DSFN_AGENT", "value": address},) if address else ()
