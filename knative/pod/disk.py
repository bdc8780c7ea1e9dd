"""What a pod writes to directories of its container is kept within a limit.

The kubelet does that for volumes, and a pod that has none ends by itself: a container that starts
in its place has new directories, and the kubelet takes away those of the ones before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from os import walk
from pathlib import Path

LOOK_S = 10.0
# So many times longer than a look takes is the wait for the next: of a pod with a million files,
# too, it takes a twentieth of the processor at most.
_SELDOM = 20
_BLOCK_BYTES = 512
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
    loop, pause_s, used_bytes = asyncio.get_running_loop(), LOOK_S, 0
    while max_bytes and used_bytes <= max_bytes:
        await asyncio.sleep(pause_s)
        began_s = loop.time()
        used_bytes = await asyncio.to_thread(used, directories)
        pause_s = max(LOOK_S, _SELDOM * (loop.time() - began_s))
    if max_bytes:
        _LOG.warning(
            "The pod has written %d bytes to %s, where %d may be; it ends, and another begins.",
            used_bytes,
            " and ".join(str(each) for each in directories),
            max_bytes,
        )
        stop()


def used(directories: tuple[Path, ...]) -> int:
    """The bytes on the disk that all files below have. Blocks."""
    return sum(_BLOCK_BYTES * blocks for each in directories for blocks in _blocks(each))


def _blocks(directory: Path) -> Iterator[int]:
    for root, _, names in walk(directory):
        for name in names:
            try:
                yield (Path(root) / name).lstat().st_blocks
            except OSError:
                continue  # it has gone
