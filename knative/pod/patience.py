"""What a pod waits for as it starts: it may come later, and who called may wait, too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dsfn.functions.errors import ReplicaStartFailed, Unavailable

_AGAIN_S = 1.0
_T = TypeVar("_T")
_LOG = logging.getLogger("dsfn.pod")


async def patiently(attempt: Callable[[], Awaitable[_T]], patience_s: float) -> _T:
    """What `attempt` gives. While it raises `Unavailable` it is made again each second, and why is
    told. Raises the last one after `patience_s`, and `ReplicaStartFailed` at once: it is the
    function's own."""
    loop = asyncio.get_running_loop()
    ends_at_s = loop.time() + patience_s
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            if isinstance(error, ReplicaStartFailed) or loop.time() >= ends_at_s:
                raise
            _LOG.warning("%s", error.message)
        await asyncio.sleep(_AGAIN_S)
