"""Which runner fits a function."""

from __future__ import annotations

import inspect
from asyncio import AbstractEventLoop

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
    call = endpoint.handler
    if not inspect.isroutine(call):
        call = type(call).__call__
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        return TaskRunner(endpoint, loop, send, finish)
    if load.max_batch > 1:
        return BatchRunner(endpoint, loop, send, finish, load.max_batch)
    if load.concurrency > 1 or endpoint.signature.result.streaming:
        return ThreadRunner(endpoint, loop, send, finish, load.concurrency)
    return InlineRunner(endpoint, loop, send, finish)
