"""How many CPUs this process may use."""

from __future__ import annotations

import os


def available_cpus() -> int:
    """CPUs in this process's affinity mask; at least 1."""
    return max(1, len(os.sched_getaffinity(0)))
