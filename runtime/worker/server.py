"""The worker's side of its socket: frames in, frames out."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from typing import cast

from dsfn.functions.errors import DsfnError, MemoryFull, NotFound
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.devices import Devices
from dsfn.runtime.worker.endpoint import Answer
from dsfn.runtime.worker.faults import gpu_memory_full, is_gpu_memory_full
from dsfn.runtime.worker.frames import Frame, FrameReader, Kind
from dsfn.runtime.worker.jobs import run_job
from dsfn.runtime.worker.linux import limit_memory
from dsfn.runtime.worker.messages import Load, Warm
from dsfn.runtime.worker.replica import Replica, load
from dsfn.runtime.worker.runner_choice import runner_for
from dsfn.runtime.worker.runners import Runner, flush_output, outside
from dsfn.runtime.worker.warm import warm_gpu


class Server(asyncio.Protocol):
    """Serves one node: a replica after LOAD, one job after JOB; the process ends with it."""

    def __init__(self, loop: AbstractEventLoop, owner: socket.socket | None) -> None:
        self._loop = loop
        self._owner = owner
        self._reader = FrameReader()
        self._transport: asyncio.Transport
        self._replica: Replica
        self._runner: Runner | None = None
        self._stopping = False
        self._on: Mapping[Kind, Callable[[Frame], None]] = {
            Kind.WARM: self._on_warm,
            Kind.LOAD: self._on_load,
            Kind.JOB: self._on_job,
            Kind.CALL: self._on_call,
            Kind.CANCEL: self._on_cancel,
            Kind.ACK: self._on_ack,
            Kind.PARK: self._on_park,
            Kind.UNPARK: self._on_unpark,
            Kind.CHECK: self._on_check,
            Kind.STOP: self._on_stop,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        for frame in self._reader.feed(data):
            self._on[frame.kind](frame)

    def connection_lost(self, exc: Exception | None) -> None:
        """The node has gone, or all is said: this is the end of the process."""
        flush_output()
        os._exit(0)

    def _on_warm(self, frame: Frame) -> None:
        request = Warm.from_document(frame.json())
        warm_gpu(Devices.choose(request.gpus, self._owner))
        self._transport.write(frames.encode(Kind.WARMED, 0))

    def _on_load(self, frame: Frame) -> None:
        request = Load.from_document(frame.json())
        try:
            with outside(self._loop):
                self._replica = load(request, self._owner, self._tell_of_restore)
        except Exception as error:  # noqa: BLE001  a driver or library may raise anything
            self._fail(_told(error))
            return
        self._runner = runner_for(
            self._replica.endpoint,
            request,
            self._loop,
            self._transport.write,
            self._finish,
        )
        # What was loaded stays: the collector need not look at it again.
        gc.freeze()
        gc.enable()
        if request.memory_bytes is not None:
            limit_memory(request.memory_bytes, self._runner.threads)
        self._send(Kind.READY, self._replica.ready.to_document())

    def _tell_of_restore(self) -> None:
        """At once: the loop does not turn before the restore has ended, if it ever does."""
        connection = self._transport.get_extra_info("socket").fileno()
        os.write(connection, frames.encode(Kind.RESTORING, 0))

    def _on_job(self, frame: Frame) -> None:
        gc.enable()
        # A job that takes too long is told so, as by Ctrl-C: its traceback shows where it hangs.
        signal.signal(signal.SIGUSR1, signal.default_int_handler)
        try:
            with outside(self._loop):
                result = run_job(frame.json(), self._owner)
        except Exception as error:  # noqa: BLE001  as in `_on_load`
            self._fail(_told(error))
            return
        self._send(Kind.DONE, result)
        self._transport.close()

    def _on_call(self, frame: Frame) -> None:
        assert self._runner is not None
        self._runner.start(frame.call, frames.decode_call(frame.payload))

    def _on_cancel(self, frame: Frame) -> None:
        assert self._runner is not None
        self._runner.cancel(frame.call)

    def _on_ack(self, frame: Frame) -> None:
        assert self._runner is not None
        self._runner.acknowledge(frame.call, frames.decode_ack(frame.payload))

    def _on_park(self, _: Frame) -> None:
        self._replica.park()
        self._send(Kind.PARKED, {})

    def _on_unpark(self, _: Frame) -> None:
        try:
            with outside(self._loop):
                parts = self._replica.unpark()
        except (MemoryFull, NotFound) as error:
            self._send(Kind.FAILED, error.to_document())  # it is parked as it was before
            return
        except Exception as error:  # noqa: BLE001  as in `_on_load`
            self._fail(_told(error))
            return
        self._send(Kind.UNPARKED, {"restore_us": sum(parts.values()), "parts": parts})

    def _on_check(self, _: Frame) -> None:
        try:
            checked = self._replica.check()
        except MemoryFull as error:
            self._send(Kind.FAILED, error.to_document())  # its weights are as they were
            return
        except DsfnError as error:
            self._fail(error)
            return
        self._send(Kind.CHECKED, checked.to_document())

    def _on_stop(self, _: Frame) -> None:
        self._stopping = True
        self._end_if_idle()

    def _finish(self, answer: Answer) -> None:
        self._transport.write(answer.frame)
        self._stopping = self._stopping or answer.fatal
        if self._stopping:
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._runner is None or self._runner.running == 0:
            self._transport.close()  # once all is written

    def _fail(self, error: DsfnError) -> None:
        """Says why it cannot go on, and ends."""
        self._send(Kind.FAILED, error.to_document())
        self._transport.close()

    def _send(self, kind: Kind, document: Mapping[str, object]) -> None:
        self._transport.write(frames.encode_json(kind, document))


def _told(error: Exception) -> DsfnError:
    """What the node hears of an error. One that nobody foresaw is the worker's end like any other;
    without a word the node could only tell that a process has gone."""
    if isinstance(error, DsfnError):
        return error
    if is_gpu_memory_full(error):
        return gpu_memory_full()
    traceback.print_exception(error)
    return DsfnError(f"The worker failed: {type(error).__name__}: {error}.")
