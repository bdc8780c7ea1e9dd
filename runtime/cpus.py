"""The CPUs that a process may use, and how the replicas that are busy share them."""

from __future__ import annotations

import os
from dataclasses import field
from math import ceil
from pathlib import Path

from dsfn.functions.values import dataclass

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> int:
    """CPUs in this process's affinity mask, or as many as a container's quota comes to where that
    is less; at least 1."""
    cpus = len(os.sched_getaffinity(0))
    quota = _quota_cpus(cgroup)
    return max(1, cpus if quota is None else min(cpus, ceil(quota)))


def _quota_cpus(cgroup: Path) -> float | None:
    """The quota of the cgroup that a container sees as its root (version 2, or else 1), None for
    none. https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files"""
    try:
        quota_us, period_us = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except OSError:
        try:
            quota_us = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period_us = (cgroup / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii")
        except OSError:
            return None
    if quota_us == "max" or int(quota_us) <= 0:
        return None
    return int(quota_us) / int(period_us)


@dataclass(eq=False, slots=True)
class CpuShares:
    """Divides the CPUs among the replicas that run calls."""

    cpus: int = field(default_factory=available_cpus)
    busy_replicas: int = 0

    def threads(self) -> int:
        """The threads that a call on one of them may use; at least 1."""
        return max(1, self.cpus // max(1, self.busy_replicas))
