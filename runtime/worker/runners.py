"""How calls run beside each other: one by one, in threads, or as tasks."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import sys
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial

from dsfn.functions.errors import CallCancelled
from dsfn.runtime.cpus import available_cpus
from dsfn.runtime.worker.endpoint import Answer, Endpoint, use_threads
from dsfn.runtime.worker.frames import CallFrame
from dsfn.runtime.worker.interrupts import Interrupted, SignalInterrupt, ThreadInterrupt
from dsfn.runtime.worker.stopwatch import Stopwatch
from dsfn.runtime.worker.streams import TaskStream, ThreadStream

# `$ref` or an event's `dataref`: what has to be fetched may hold up other calls.
_REFERENCE = re.compile(rb'ref"')

Send = Callable[[bytes], object]
Finish = Callable[[Answer], None]


@contextmanager
def outside(loop: AbstractEventLoop) -> Iterator[None]:
    """Hides the running loop from plain code, which may want to use `asyncio.run()`."""
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


def flush_output() -> None:
    """Sends what was printed on its way, as far as user code has left that possible."""
    with suppress(Exception):  # it may have put anything there
        sys.stdout.flush()


class Runner(ABC):
    """Runs the calls of one replica. `send` takes a frame; `finish` takes the last of a call.

    `threads`: how many threads, torch's included, its calls may come to run in.
    """

    threads = available_cpus()

    def __init__(
        self, endpoint: Endpoint, loop: AbstractEventLoop, send: Send, finish: Finish
    ) -> None:
        self.endpoint = endpoint
        self.loop = loop
        self.send = send
        self._finish = finish
        self.running = 0
        self._process = os.getpid()

    def start(self, number: int, call: CallFrame) -> None:
        """Begins a call."""
        self.running += 1
        self._start(number, call)

    @abstractmethod
    def cancel(self, number: int) -> None:
        """Stops a call, if it still runs."""

    @abstractmethod
    def acknowledge(self, number: int, count: int) -> None:
        """The reader of a call's stream has taken `count` bytes."""

    @abstractmethod
    def _start(self, number: int, call: CallFrame) -> None: ...

    def _end(self, answer: Answer) -> None:
        if os.getpid() != self._process:
            # User code has forked and its child came back: the socket is its parent's.
            os._exit(0)
        self.running -= 1
        flush_output()
        self._finish(answer)


class InlineRunner(Runner):
    """Calls of a plain function, one after another on the main thread: the shortest way."""

    def __init__(
        self, endpoint: Endpoint, loop: AbstractEventLoop, send: Send, finish: Finish
    ) -> None:
        super().__init__(endpoint, loop, send, finish)
        self._interrupt = SignalInterrupt()

    def cancel(self, number: int) -> None:
        """Nothing: a call that runs keeps this from being heard, and is sent a signal."""

    def acknowledge(self, number: int, count: int) -> None:
        """Nothing: there are no streams here."""

    def _start(self, number: int, call: CallFrame) -> None:
        with outside(self.loop):
            answer = self.endpoint.run(number, call, self._interrupt)
        self._end(answer)


class ThreadRunner(Runner):
    """Calls of a plain function in threads: several at once, or streams."""

    def __init__(
        self, endpoint: Endpoint, loop: AbstractEventLoop, send: Send, finish: Finish, threads: int
    ) -> None:
        super().__init__(endpoint, loop, send, finish)
        self.threads = threads * (1 + available_cpus())
        self._threads = ThreadPoolExecutor(threads, "call")
        self._interrupts: dict[int, ThreadInterrupt] = {}
        self._streams: dict[int, ThreadStream] = {}

    def cancel(self, number: int) -> None:
        """See `Runner`."""
        if interrupt := self._interrupts.get(number):
            interrupt.request()

    def acknowledge(self, number: int, count: int) -> None:
        """See `Runner`."""
        if stream := self._streams.get(number):
            stream.acknowledge(count)

    def _start(self, number: int, call: CallFrame) -> None:
        if self.endpoint.signature.result.streaming:
            stream = self._streams[number] = ThreadStream(self.endpoint, number, self._send_soon)
            self._interrupts[number] = stream.interrupt
            run = partial(stream.run, call)
        else:
            interrupt = self._interrupts[number] = ThreadInterrupt()
            run = partial(self.endpoint.run, number, call, interrupt)
        self._threads.submit(self._run, number, run)

    def _send_soon(self, frame: bytes) -> None:
        self.loop.call_soon_threadsafe(self.send, frame)

    def _run(self, number: int, run: Callable[[], Answer]) -> None:
        answer = run()
        self.loop.call_soon_threadsafe(self._forget, number, answer)

    def _forget(self, number: int, answer: Answer) -> None:
        del self._interrupts[number]
        self._streams.pop(number, None)
        self._end(answer)


class TaskRunner(Runner):
    """Calls of an async function, as tasks on the loop."""

    threads = available_cpus() + min(32, available_cpus() + 4)  # asyncio's own for to_thread()

    def __init__(
        self, endpoint: Endpoint, loop: AbstractEventLoop, send: Send, finish: Finish
    ) -> None:
        super().__init__(endpoint, loop, send, finish)
        self._tasks: dict[int, asyncio.Task[Answer]] = {}
        self._streams: dict[int, TaskStream] = {}

    def cancel(self, number: int) -> None:
        """See `Runner`. Once: a second time would break off what cleans up."""
        task = self._tasks.get(number)
        if task is not None and not task.cancelling():
            task.cancel()

    def acknowledge(self, number: int, count: int) -> None:
        """See `Runner`."""
        if stream := self._streams.get(number):
            stream.acknowledge(count)

    def _start(self, number: int, call: CallFrame) -> None:
        task = self._tasks[number] = self.loop.create_task(self._run(number, call))
        task.add_done_callback(partial(self._forget, number))

    async def _run(self, number: int, call: CallFrame) -> Answer:
        watch = self.endpoint.stopwatch()
        try:
            arguments = await self._decode(call)
            watch.computes()
            value = self.endpoint.handler(**arguments)
            if inspect.isawaitable(value):
                value = await value
            if self.endpoint.signature.result.streaming:
                stream = self._streams[number] = TaskStream(self.endpoint, number, self.send)
                return await stream.pass_on(value, watch)
            watch.computed()
            encoded = self.endpoint.encode(value, call.accept)
        except BaseException as error:  # noqa: BLE001  as in Endpoint.run
            if isinstance(error, asyncio.CancelledError) and self._was_cancelled():
                error = Interrupted()
            return self.endpoint.fault(number, watch, error)
        return self.endpoint.result(number, watch, encoded)

    async def _decode(self, call: CallFrame) -> dict[str, object]:
        if _REFERENCE.search(call.body):
            use_threads(call.threads)
            return await asyncio.to_thread(self.endpoint.decode, call)
        return self.endpoint.decode(call)

    @staticmethod
    def _was_cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _forget(self, number: int, task: asyncio.Task[Answer]) -> None:
        del self._tasks[number]
        self._streams.pop(number, None)
        if task.cancelled():  # before its first step
            error = CallCancelled("The call was cancelled.")
            self._end(self.endpoint.fault(number, Stopwatch(), error))
        else:
            self._end(task.result())
