"""What a pod writes to directories of its container is kept within a limit.

The kubelet does that for volumes, and a pod that has none ends by itself: a container that starts
in its place has new directories, and the kubelet takes away those of the ones before.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

LOOK_S = 10.0
# So many times longer than a look takes is the wait for the next: of a pod with a million files,
# too, it takes a twentieth of the processor at most.
_SELDOM = 20
_BLOCK_BYTES = 512
# What a directory answers that somebody shuts again and again, or has put out of reach of any path.
_HIDES = (errno.EACCES, errno.ENAMETOOLONG)
_READABLE = os.R_OK | os.X_OK
# What the kernel puts behind the name of a file that is open and has none any more.
_DELETED = " (deleted)"
_LOG = logging.getLogger("dsfn.pod")


@asynccontextmanager
async def kept_within(
    max_bytes: int, directories: tuple[Path, ...], stop: Callable[[], None]
) -> AsyncIterator[None]:
    """Looks now and then whether all that is in `directories` takes more than `max_bytes` (0 for
    any), and has the pod `stop` then."""
    looking = asyncio.create_task(_look(max_bytes, directories, stop))
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def _look(max_bytes: int, directories: tuple[Path, ...], stop: Callable[[], None]) -> None:
    """Returns once it is too much."""
    loop, pause_s, reason = asyncio.get_running_loop(), LOOK_S, ""
    while max_bytes and not reason:
        await asyncio.sleep(pause_s)
        began_s = loop.time()
        reason = await asyncio.to_thread(_too_much, max_bytes, directories)
        pause_s = max(LOOK_S, _SELDOM * (loop.time() - began_s))
    if reason:
        _LOG.warning("%s; it ends, and another begins.", reason)
        stop()


def _too_much(max_bytes: int, directories: tuple[Path, ...]) -> str:
    """Why the pod may not go on, "" if it may."""
    places = " and ".join(map(str, directories))
    try:
        used_bytes = used(directories)
    except OSError as error:
        return f"The pod hides what it has written to {places} ({error.strerror})"
    if used_bytes <= max_bytes:
        return ""
    return f"The pod has written {used_bytes} bytes to {places}, where {max_bytes} may be"


def used(directories: tuple[Path, ...]) -> int:
    """The bytes on the disk that all has that is below, or was and is still open. A directory of
    the pod's own user that he may not read is made so that he may. Raises `OSError` for one that
    cannot be counted all the same."""
    places = tuple(str(each.resolve()) for each in directories)
    left, blocks = list(places), sum(_unlinked(places))
    while left:
        directory = left.pop()
        try:
            if not os.access(directory, _READABLE):
                Path(directory).chmod(0o700)
            blocks += _blocks(directory, left)
        except OSError as error:
            if error.errno in _HIDES:
                raise
            # It has gone, or is another user's, and so nothing of the pod's is there.
    return _BLOCK_BYTES * blocks


def _blocks(directory: str, found: list[str]) -> int:
    """Those of all that a directory has itself; the directories there are `found`, too."""
    blocks = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            blocks += status.st_blocks
            if S_ISDIR(status.st_mode):
                found.append(entry.path)
    return blocks


def _unlinked(places: tuple[str, ...]) -> Iterator[int]:
    """The blocks of each file that was in these places and has no name any more, but is held open
    by a process that this one may look into.

    Its device would not say that it was there: in a layered file system, files have others than
    their directories.
    """
    within = tuple(f"{place}/" for place in places)
    seen = set()
    for descriptor in _descriptors():
        with suppress(OSError):
            name = str(descriptor.readlink())
            if not (name.endswith(_DELETED) and name.startswith(within)):
                continue
            status = descriptor.stat()
            file = (status.st_dev, status.st_ino)
            if status.st_nlink == 0 and file not in seen:
                seen.add(file)
                yield status.st_blocks


def _descriptors() -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):  # it has ended, or is none of this user's
                yield from (process / "fd").iterdir()
