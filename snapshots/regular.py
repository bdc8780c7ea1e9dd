"""Opening what somebody else may have put there: a file is read if it is one, and no link.

Code of functions writes snapshots, and runs as the same user as the programs that read them.
Through a link these would read, and publish, whatever it names; at a FIFO they would wait for ever.
"""

from __future__ import annotations

import errno
import os
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG

# What opening a link without following it, and opening a socket, come to.
_NO_FILE = frozenset((errno.ELOOP, errno.ENXIO))


class NotRegular(OSError):
    """A link, FIFO, socket, device or directory lies where a regular file belongs."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file", str(path))


def open_regular(path: Path, *, through_links: bool = False) -> BufferedReader:
    """Opens a regular file to be read. `through_links`: or what a link in its place leads to,
    where the links are this program's own. Waits for nobody. Raises `NotRegular`, `OSError`."""
    # NONBLOCK: opening a FIFO would wait for who writes to it. Regular files know no such thing.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if through_links else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise NotRegular(path) from None
        raise
    if not S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotRegular(path)
    return os.fdopen(fd, "rb")
