"""The machine's CPUs, and how the replicas that are busy share them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


def available_cpus() -> int:
    """CPUs in this process's affinity mask; at least 1."""
    return max(1, len(os.sched_getaffinity(0)))


@dataclass(eq=False, slots=True)
class CpuShares:
    """Divides the CPUs among the replicas that run calls."""

    cpus: int = field(default_factory=available_cpus)
    busy_replicas: int = 0

    def threads(self) -> int:
        """The threads that a call on one of them may use; at least 1."""
        return max(1, self.cpus // max(1, self.busy_replicas))
