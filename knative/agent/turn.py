"""One agent at a time has a node's directory: the next one stands by until its turn comes."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dsfn.functions.errors import UsageError


class Turn:
    """Had for as long as this lives; the operating system takes it from a process that ends."""

    def __init__(self, directory: Path) -> None:
        """Takes nothing yet. Raises `UsageError` where the directory cannot be used."""
        path = directory / "agent.lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be opened: {(error.strerror or '').lower()}."
            ) from error

    def take(self) -> bool:
        """Whether no other agent has the directory, which is this one's from then on."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def end(self) -> None:
        """Lets the next one begin."""
        os.close(self._descriptor)
