"""What every part of a node that writes files needs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from dsfn.functions.errors import StorageFull

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


@contextmanager
def full_disk_errors(what: str) -> Iterator[None]:
    """Turns the system's errors about room on the disk into `StorageFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageFull(f"There is no room left on the disk for {what}.") from error
