"""Files that are written whole or not at all, and what makes one outlast a loss of power."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Has the names in a directory reach the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(
    path: Path,
    content: bytes,
    *,
    durably: bool = False,
    mode: int = 0o600,
    by_way_of: Path | None = None,
) -> None:
    """Writes all of a file or, should this process be killed or there be no room, none of it:
    whoever reads it meanwhile finds the one before, if any.

    `durably`: so, too, should the power fail, and for good when it returns. `mode`: who may do what
    with it, as far as the umask lets them; by default its owner alone. `by_way_of`: where it is
    until it is whole, on the same disk; where several write the file at a time, each has another.
    Raises `OSError`.
    """
    fresh = by_way_of or path.with_name(f".{path.name}")
    # What a process that was killed has left may be of another mode.
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durably:
                file.flush()
                os.fsync(descriptor)
        fresh.replace(path)
    except BaseException:
        # It would keep the room that there was not.
        fresh.unlink(missing_ok=True)
        raise
    if durably:
        sync_directory(path.parent)
