"""What everything that writes snapshots asks of the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsfn.functions.errors import StorageFull


@contextmanager
def storage_full() -> Iterator[None]:
    """Turns the system's errors about room on the disk into `StorageFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The disk has no room for the snapshot.") from error
        raise


def sync_directory(directory: Path) -> None:
    """Has the names in a directory reach the disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create_file(path: Path, size_bytes: int) -> int:
    """Makes a file with room for `size_bytes`; its descriptor. Raises `StorageFull`."""
    with storage_full():
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            if size_bytes:
                os.posix_fallocate(fd, 0, size_bytes)
        except BaseException:
            os.close(fd)
            raise
    return fd
