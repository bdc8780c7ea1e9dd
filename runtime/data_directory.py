"""A node's data directory: one node at a time, and how others find that node."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path

from dsfn.billing.durable import write_whole
from dsfn.functions.errors import StorageFull, UsageError
from dsfn.functions.values import dataclass


@dataclass(eq=False)
class DataDirectory:
    """The directory, locked for as long as this lives."""

    path: Path
    _lock: int

    @classmethod
    def lock(cls, path: Path) -> DataDirectory:
        """Makes the directory if need be and locks it.

        Raises `UsageError` when another node has it or it cannot be used, `StorageFull`.
        """
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(path / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno == 28:
                raise StorageFull(f"There is no room left on the disk of {path}.") from error
            raise UsageError(
                f"{path} cannot be used as a data directory: {error.strerror}."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UsageError(
                f"Another node already uses {path}; stop it with `dsfn down` or choose another"
                " directory with --data."
            ) from None
        return cls(path, lock)

    def announce(self, url: str, started_at: str, local_key: str) -> None:
        """Writes `node.json`, by which the command line finds the node, and `node.key`, by which
        the node knows that it is its owner's."""
        write_whole(self.path / "node.key", local_key.encode())
        document = {"url": url, "pid": os.getpid(), "started_at": started_at}
        write_whole(self.path / "node.json", json.dumps(document).encode())

    def release(self) -> None:
        """Takes both away and unlocks the directory."""
        for name in ("node.json", "node.key"):
            with suppress(FileNotFoundError):
                (self.path / name).unlink()
        os.close(self._lock)
