"""One writer for each ledger: an OS lock on a file beside the database."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dsfn.functions.errors import StorageFull, UsageError


class WriterLock:
    """Held for as long as this lives; the operating system takes it from a process that ends."""

    def __init__(self, path: Path) -> None:
        """Locks the database at `path`. Raises `UsageError` when another has it, `StorageFull`."""
        self._path = path.with_name(f"{path.name}.lock")
        self._descriptor: int | None = self._lock()

    def release(self) -> None:
        """Lets another write; the file goes while it is still locked. Once released, it is
        another's: releasing it again does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(descriptor)

    def _lock(self) -> int:
        while True:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise UsageError(
                    f"Another process writes to {self._path.with_suffix('')}: a ledger has one"
                    " writer."
                ) from None
            if self._is_there(descriptor):
                return descriptor
            # Whoever had it has just let go of it and taken the file away.
            os.close(descriptor)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno == 28:
                raise StorageFull(f"There is no room left on the disk of {self._path}.") from error
            raise UsageError(f"{self._path} cannot be opened: {error.strerror}.") from error

    def _is_there(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False
