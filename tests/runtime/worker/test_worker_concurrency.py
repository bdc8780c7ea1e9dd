from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_client import Failed, ForkServer, Worker, write_app

from dsfn.runtime.worker import frames
from dsfn.runtime.worker.frames import Kind

Spawn = Callable[[], Worker]

MEETING = """
    import asyncio, threading

    @dsfn.function(concurrency=3)
    class Meet:
        '''Nobody gets away before three are there.'''

        def setup(self) -> None:
            self.here = 0

        async def __call__(self) -> int:
            self.here += 1
            while self.here < 3:
                await asyncio.sleep(0.001)
            return self.here

    @dsfn.function(concurrency=3)
    class MeetInThreads:
        def after_restore(self) -> None:
            self.barrier = threading.Barrier(3, timeout=30)

        def __call__(self) -> int:
            return 3 if self.barrier.wait() >= 0 else 0
"""


@pytest.mark.parametrize("function", ["meet", "meet-in-threads"])
def test_calls_run_beside_each_other(spawn: Spawn, tmp_path: Path, function: str) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, MEETING), function, concurrency=3)
    waiting = {worker.begin(b"") for _ in range(3)}
    for _ in range(3):
        frame = worker.receive()
        waiting.remove(frame.call)
        assert bytes(frames.decode_result(frame.payload).body) == b"3"


LOOPS = """
    import asyncio, sys, time

    class Loop:
        def __call__(self, how: str) -> str:
            if how == "answer":
                return how
            print("looping", flush=True)
            if how == "sleep":
                time.sleep(60)
            try:
                while True:
                    pass
            finally:
                print("let go", flush=True)

    loop = dsfn.function(name="loop")(Loop)
    loop_in_threads = dsfn.function(name="loop-in-threads", concurrency=2)(Loop)

    @dsfn.function(concurrency=2)
    async def wait(how: str) -> str:
        if how == "answer":
            return how
        print("looping", flush=True)
        try:
            await asyncio.sleep(60)
        finally:
            print("let go", flush=True)
        return how
"""


def _cancel(worker: Worker, number: int) -> None:
    """As the node does: a frame, and a signal for a loop that is blocked."""
    worker.send(frames.encode(Kind.CANCEL, number))
    os.kill(worker.pid, signal.SIGUSR1)


@pytest.mark.parametrize(
    ("function", "how"),
    [("loop", "loop"), ("loop", "sleep"), ("loop-in-threads", "loop"), ("wait", "wait")],
)
def test_a_cancelled_call_stops_and_the_worker_goes_on(
    spawn: Spawn, tmp_path: Path, function: str, how: str
) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, LOOPS), function, concurrency=1 if function == "loop" else 2)
    for _ in range(3):
        number = worker.begin(b'{"how":"%s"}' % how.encode())
        worker.printed("looping")
        _cancel(worker, number)
        with pytest.raises(Failed) as caught:
            worker.answer(number)
        assert caught.value.error == "CallCancelled"
        assert worker.call(how="answer") == "answer"


CLEANS_UP = """
    import asyncio, time
    from collections.abc import AsyncIterator, Iterator

    @dsfn.function
    def call() -> None:
        try:
            print("running", flush=True)
            while True:
                time.sleep(0.01)
        finally:
            print("stopping", flush=True)
            for _ in range(50):
                time.sleep(0.01)
            print("clean", flush=True)

    in_threads = dsfn.function(name="in-threads", concurrency=2)(call.target)

    @dsfn.function(concurrency=2)
    async def task() -> None:
        try:
            print("running", flush=True)
            await asyncio.sleep(60)
        finally:
            print("stopping", flush=True)
            await asyncio.sleep(0.5)
            print("clean", flush=True)

    @dsfn.function
    def stream() -> Iterator[int]:
        yield 1
        yield from call.target() or ()

    @dsfn.function
    async def async_stream() -> AsyncIterator[int]:
        yield 1
        await task.target()
"""


@pytest.mark.parametrize("function", ["call", "in-threads", "task", "stream", "async-stream"])
def test_what_cleans_up_is_not_cancelled_again(spawn: Spawn, tmp_path: Path, function: str) -> None:
    worker = spawn()
    concurrency = 2 if function in ("in-threads", "task") else 1
    worker.load(write_app(tmp_path, CLEANS_UP), function, concurrency=concurrency)
    number = worker.begin(b"")
    worker.printed("running")
    _cancel(worker, number)
    worker.printed("stopping")
    _cancel(worker, number)
    worker.printed("clean")
    frame = worker.receive()
    while frame.kind is not Kind.ERROR:
        frame = worker.receive()
    assert frames.decode_error(frame.payload)[1]["error"] == "CallCancelled"


def test_a_cancellation_that_comes_too_late_hits_nothing(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, LOOPS), "loop")
    for _ in range(300):
        number = worker.begin(b'{"how":"answer"}')
        _cancel(worker, number)
        try:
            assert worker.answer(number) == "answer"
        except Failed as failed:
            assert failed.error == "CallCancelled"
    assert worker.call(how="answer") == "answer"


def test_a_task_cancelled_before_its_first_step_is_answered(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, LOOPS), "wait", concurrency=2)
    call = frames.encode_call(1, 1, "application/json", "*/*", b'{"how":"wait"}')
    worker.send(call + frames.encode(Kind.CANCEL, 1))
    with pytest.raises(Failed) as caught:
        worker.answer(1)
    assert caught.value.error == "CallCancelled"


def test_an_idle_replica_ends_at_once_when_its_node_has_gone(
    server: ForkServer, spawn: Spawn, tmp_path: Path
) -> None:
    worker = spawn()
    worker.load(write_app(tmp_path, LOOPS), "wait", concurrency=2)
    worker.begin(b'{"how":"wait"}')
    worker.printed("looping")
    worker.socket.shutdown(2)
    began_s = time.monotonic()
    assert server.exit_status(worker) == 0
    assert time.monotonic() - began_s < 30
