"""Which runner fits a function."""

from __future__ import annotations

import inspect
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

from dsfn.functions.signature import Signature
from dsfn.runtime.worker.batches import BatchRunner
from dsfn.runtime.worker.endpoint import Endpoint
from dsfn.runtime.worker.messages import Load
from dsfn.runtime.worker.runners import (
    Finish,
    InlineRunner,
    Runner,
    Send,
    TaskRunner,
    ThreadRunner,
)


def runner_for(
    endpoint: Endpoint, load: Load, loop: AbstractEventLoop, send: Send, finish: Finish
) -> Runner:
    """The runner that fits a function and its options."""
    if runs_inline(endpoint.handler, endpoint.signature, load.concurrency, load.max_batch):
        return InlineRunner(endpoint, loop, send, finish)
    if _is_async(endpoint.handler):
        return TaskRunner(endpoint, loop, send, finish)
    if load.max_batch > 1:
        return BatchRunner(endpoint, loop, send, finish, load.max_batch)
    return ThreadRunner(endpoint, loop, send, finish, load.concurrency)


def runs_inline(
    handler: Callable[..., Any], signature: Signature, concurrency: int, max_batch: int
) -> bool:
    """Whether calls run one after another, each in one go on the main thread."""
    one_by_one = concurrency == max_batch == 1 and not signature.result.streaming
    return one_by_one and not _is_async(handler)


def _is_async(handler: Callable[..., Any]) -> bool:
    call = handler if inspect.isroutine(handler) else type(handler).__call__
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)
