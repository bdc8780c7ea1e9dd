"""Answers to requests that take long: how far it is, line by line, then what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any

from dsfn.functions.errors import DsfnError
from dsfn.runtime.gateway.ndjson import NdjsonResponse, ndjson_line
from dsfn.runtime.problems import problem_document
from dsfn.snapshots.transfer import Transfer

EVERY_S = 0.5

Work = Coroutine[None, None, dict[str, Any]]


def progress_response(work: Work, copies: Callable[[], Iterable[Transfer]]) -> NdjsonResponse:
    """Lines {"done_bytes", "total_bytes"} while `copies` are under way, and at last {"result"} or
    {"problem"}. The work ends with its client."""
    return NdjsonResponse(_lines(work, copies))


async def _lines(
    work: Work, copies: Callable[[], Iterable[Transfer]]
) -> AsyncGenerator[bytes, None]:
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({task}, timeout=EVERY_S))[0]:
            if under_way := list(copies()):
                done = sum(copy.done_bytes for copy in under_way)
                total = sum(copy.total_bytes for copy in under_way)
                yield ndjson_line({"done_bytes": done, "total_bytes": total})
        try:
            yield ndjson_line({"result": task.result()})
        except DsfnError as error:
            yield ndjson_line({"problem": problem_document(error)})
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
