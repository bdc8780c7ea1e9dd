"""The stand-in whose memory is a file system's: others may take some of it, as of a GPU's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from dsfn.functions.errors import DeviceFault
from dsfn.snapshots.owner.errors import memory_full
from dsfn.snapshots.owner.host import HostDevice


class HostFilesDevice(HostDevice):
    """A `HostDevice` that has all the room of the file system at `directory`, best a tmpfs of its
    own. As with a GPU's memory, what a process takes is free again when none has it open or mapped.

    Raises `DeviceFault`.
    """

    def __init__(self, directory: Path, bytes_per_s: int) -> None:
        self._directory = directory
        try:
            total_bytes = self.memory()[1]
        except OSError as error:
            raise DeviceFault(
                f"{directory} cannot be a device's memory: {error.strerror}.", operation="statvfs"
            ) from error
        super().__init__(total_bytes, bytes_per_s)

    def memory(self) -> tuple[int, int]:
        """See `Device`."""
        found = os.statvfs(self._directory)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def new_file(self, size_bytes: int) -> int:
        """See `HostDevice`."""
        fd = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        except OSError as error:
            os.close(fd)
            if error.errno != errno.ENOSPC:
                raise
            raise memory_full("device", size_bytes, self.memory()[0]) from error
        return fd
