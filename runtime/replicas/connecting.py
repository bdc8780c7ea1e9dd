"""Taking over what a worker that was just born has: its socket and its output."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dsfn.runtime.replicas.channel import Channel
from dsfn.runtime.replicas.forkserver import WorkerProcess

Output = TypeVar("Output")


async def connect(
    worker: WorkerProcess, take_output: Callable[[int], Output]
) -> tuple[Channel, Output]:
    """A channel to the worker, and what `take_output` makes of the descriptor of its output. Where
    either fails nothing is left of the worker; raises why."""
    channel = Channel()
    try:
        channel = await Channel.open(worker.socket)
        return channel, take_output(worker.output)
    except BaseException:
        channel.close()
        worker.kill()
        worker.close()
        raise
