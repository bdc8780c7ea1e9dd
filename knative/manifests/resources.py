"""What a function's pod asks of a node: processor, memory, GPUs."""

from __future__ import annotations

from math import ceil

from dsfn.functions.options import Options
from dsfn.knative.manifests.words import Manifest
from dsfn.runtime.model import Revision

# Enough to start by; what is idle on the node is taken beyond it.
_CPU = "100m"
# The front, the fork server with torch imported, and a worker.
_PROCESSES_BYTES = 512 << 20
# What NVIDIA's device plugin calls GPUs, and those that it shares out by time-slicing.
# Source: https://github.com/NVIDIA/k8s-device-plugin#with-cuda-time-slicing
_GPU = "nvidia.com/gpu"
_SHARED_GPU = "nvidia.com/gpu.shared"


def resources(revision: Revision) -> Manifest:
    """Requests and limits of a revision's container.

    Without `memory` a function has no limit of it, as on one machine.
    """
    loaded_bytes = _PROCESSES_BYTES + snapshot_bytes(revision)
    own_bytes = revision.options.memory_bytes
    gpus = _gpus(revision.options)
    found: Manifest = {"requests": {"cpu": _CPU, "memory": str(loaded_bytes), **gpus}}
    limits = {**gpus, **({} if own_bytes is None else {"memory": str(loaded_bytes + own_bytes)})}
    return {**found, "limits": limits} if limits else found


def snapshot_bytes(revision: Revision) -> int:
    """The size of a revision's snapshot, 0 without one."""
    return revision.snapshot.bytes if revision.snapshot else 0


def _gpus(options: Options) -> dict[str, str]:
    """GPUs by their resource's name. A fraction of one is one share of a GPU that is shared."""
    if options.gpu == 0:
        return {}
    usual = _SHARED_GPU if options.gpu < 1 else _GPU
    named = options.placement.gpu_resource if options.placement else ""
    return {named or usual: str(ceil(options.gpu))}
