"""Takes everything that a process has on a GPU away, and gives it back: the deep park.

The driver's checkpoint moves what is left of a process on its GPU, the context above all, into
that process's own memory. It is quick for a process that has no weights mapped.
https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__CHECKPOINT.html
"""

from __future__ import annotations

import os
import signal
from typing import Protocol

from dsfn.functions.errors import DeviceFault

_LOCK_MS = 5000


class Freezer(Protocol):
    """Freezes processes of one kind of device. Both raise `DeviceFault`: the process has to be
    ended then, since nobody knows what state it is in."""

    def freeze(self, pid: int) -> None:
        """Takes all that the process has on the device. It has nothing of an owner mapped."""

    def thaw(self, pid: int) -> None:
        """Gives it back."""


class CudaFreezer:
    """By the driver's checkpoint; any process may ask for it, of those of its user."""

    def __init__(self) -> None:
        from dsfn.snapshots.owner import driver

        self._call, self._cuda = driver.call, driver.driver

    def freeze(self, pid: int) -> None:
        """See `Freezer`."""
        arguments = self._cuda.CUcheckpointLockArgs()
        arguments.timeoutMs = _LOCK_MS
        self._call(self._cuda.cuCheckpointProcessLock, pid, arguments)
        self._call(self._cuda.cuCheckpointProcessCheckpoint, pid, None)

    def thaw(self, pid: int) -> None:
        """See `Freezer`."""
        self._call(self._cuda.cuCheckpointProcessRestore, pid, None)
        self._call(self._cuda.cuCheckpointProcessUnlock, pid, None)


class HostFreezer:
    """For the stand-in, of which a process has nothing but what is mapped: it is stopped, so that
    one which is used without a thaw is noticed."""

    def freeze(self, pid: int) -> None:
        """See `Freezer`."""
        self._signal(pid, signal.SIGSTOP)

    def thaw(self, pid: int) -> None:
        """See `Freezer`."""
        self._signal(pid, signal.SIGCONT)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except OSError as error:
            raise DeviceFault(f"The process {pid} cannot be frozen: {error.strerror}.") from error


def freezer_for(spec: str) -> Freezer:
    """That of a device, as `Start` names it."""
    return CudaFreezer() if spec.startswith("cuda:") else HostFreezer()
