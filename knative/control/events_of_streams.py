"""A pod's server-sent events, without those that are about the call: its cost, why it failed."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from dsfn.functions.errors import ReplicaLost
from dsfn.runtime.problem_reading import problem_error

_END = b"\n\n"
_USAGE = b"event: usage\ndata: "
_ERROR = b"event: error\ndata: "


async def passed_on(
    chunks: AsyncIterator[bytes], charges: list[dict[str, object]]
) -> AsyncGenerator[bytes, None]:
    """The events as they come; `charges` gets what the call cost. Raises what the pod says at a
    stream's end that the call failed for, and `ReplicaLost` when it says nothing."""
    rest = b""
    async for chunk in chunks:
        *events, rest = (rest + chunk).split(_END)
        for event in events:
            if event.startswith(_USAGE):
                charges.append(_data(event, _USAGE))
            elif event.startswith(_ERROR):
                raise problem_error(_data(event, _ERROR))
            else:
                yield event + _END
    if not charges:
        raise ReplicaLost(
            "The stream ended before its call did.", reason="cut off", retry_after_s=1.0
        )


def _data(event: bytes, head: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(event[len(head) :])
    return document
