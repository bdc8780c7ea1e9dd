"""What a pod writes to directories of its container is kept within a limit.

The kubelet does that for volumes, and a pod that has none ends by itself: a container that starts
in its place has new directories.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

LOOK_S = 10.0
_BLOCK_BYTES = 512
_LOG = logging.getLogger("dsfn.pod")


@asynccontextmanager
async def kept_within(
    max_bytes: int, directories: tuple[Path, ...], stop: Callable[[], None]
) -> AsyncIterator[None]:
    """Looks now and then whether all that is in `directories` takes more than `max_bytes` (0 for
    any), has the pod `stop` then, and takes away at its end what is there."""
    looking = asyncio.create_task(_look(max_bytes, directories, stop))
    try:
        yield
    finally:
        looking.cancel()
        (full,) = await asyncio.gather(looking, return_exceptions=True)
        if full is True:
            await asyncio.to_thread(_empty, directories)


async def _look(max_bytes: int, directories: tuple[Path, ...], stop: Callable[[], None]) -> bool:
    """Returns once it is too much."""
    while max_bytes:
        await asyncio.sleep(LOOK_S)
        used_bytes = await asyncio.to_thread(used, directories)
        if used_bytes > max_bytes:
            _LOG.warning(
                "The pod has written %d bytes to %s, where %d may be; it ends, and another begins.",
                used_bytes,
                " and ".join(str(each) for each in directories),
                max_bytes,
            )
            stop()
            return True
    return False


def used(directories: tuple[Path, ...]) -> int:
    """The bytes on the disk that all files below have. Blocks."""
    return sum(_BLOCK_BYTES * blocks for each in directories for blocks in _blocks(each))


def _blocks(directory: Path) -> Iterator[int]:
    for root, _, names in os.walk(directory):
        for name in names:
            try:
                yield (Path(root) / name).lstat().st_blocks
            except OSError:
                continue  # it has gone


def _empty(directories: tuple[Path, ...]) -> None:
    for directory in directories:
        for each in directory.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink(missing_ok=True)
