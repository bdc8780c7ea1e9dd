"""One call in the worker: bytes to arguments, user code, result to bytes, timed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from dsfn.functions.codec import (
    Encoded,
    Fetch,
    Limits,
    check_accept,
    decode_arguments,
    encode_item,
    encode_result,
)
from dsfn.functions.errors import DsfnError, OutOfMemory, OutputTooLarge, ReplicaLost
from dsfn.functions.signature import Signature
from dsfn.functions.values import dataclass
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.faults import call_fault
from dsfn.runtime.worker.frames import CallFrame
from dsfn.runtime.worker.interrupts import Interrupt
from dsfn.runtime.worker.stopwatch import NoWaits, Stopwatch, Waits

_local = threading.local()


@dataclass(frozen=True, slots=True)
class Answer:
    """The last frame of a call. After a `fatal` one the worker must not go on."""

    frame: bytes
    fatal: bool = False


Gate = Callable[[], AbstractContextManager[Waits]]


def no_gate() -> AbstractContextManager[Waits]:
    """For code whose weights are there."""
    return nullcontext(NoWaits())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A loaded function: what turns a CALL into an answer.

    A call runs inside `gate`, which has it wait for weights that are still on their way.
    `weight`: how much an item counts when a batch's time is divided. `stopwatch`: makes what
    measures a call.
    """

    handler: Callable[..., Any]
    signature: Signature
    bundle: Path
    fetch: Fetch
    limits: Limits
    max_result_bytes: int
    memory_bytes: int | None
    gate: Gate = no_gate
    weight: Callable[[Any], int] | None = None
    stopwatch: Callable[[], Stopwatch] = Stopwatch

    def run(self, number: int, call: CallFrame, interrupt: Interrupt) -> Answer:
        """Runs a call to its end, in this thread."""
        watch = self.stopwatch()
        try:
            with self.gate() as watch.waits:
                encoded = self._encoded(call, interrupt, watch)
        except BaseException as error:  # noqa: BLE001  whatever user code raises, sys.exit() too
            return self.fault(number, watch, error)
        return self.result(number, watch, encoded)

    def decode(self, call: CallFrame) -> dict[str, object]:
        """The arguments of a call. Raises what `decode_arguments` raises, `NotAcceptable`."""
        use_threads(call.threads)
        check_accept(self.signature.outline.result, call.accept)
        return decode_arguments(
            self.signature, call.content_type, call.body, self.fetch, self.limits
        )

    def encode(self, value: object, accept: str) -> Encoded:
        """A whole result. Raises `OutputTooLarge` and what `encode_result` raises."""
        encoded = encode_result(self.signature, value, accept)
        self._check_size(encoded.body)
        return encoded

    def encode_item(self, item: object) -> bytes:
        """One item of a stream. Raises as `encode` does."""
        chunk = encode_item(self.signature, item)
        self._check_size(chunk)
        return chunk

    def result(self, number: int, watch: Stopwatch, encoded: Encoded) -> Answer:
        """The frame of a whole result."""
        busy_us, weights_us = watch.read_us(), watch.waits.waited_us
        head_and_body = encoded.content_type, encoded.body
        return Answer(frames.encode_result(number, busy_us, *head_and_body, weights_us=weights_us))

    def fault(self, number: int, watch: Stopwatch, error: BaseException) -> Answer:
        """The frame that tells of what a call raised."""
        fault: DsfnError = call_fault(error, self.bundle, self.memory_bytes)
        frame = frames.encode_error(number, watch.read_us(), fault.to_document())
        return Answer(frame, fatal=isinstance(fault, OutOfMemory | ReplicaLost))

    def _encoded(self, call: CallFrame, interrupt: Interrupt, watch: Stopwatch) -> Encoded:
        try:
            interrupt.begin()
            arguments = self.decode(call)
            watch.computes()
            interrupt.arm()
            value = self.handler(**arguments)
            watch.computed()
        finally:
            interrupt.disarm()
        return self.encode(value, call.accept)

    def _check_size(self, body: bytes) -> None:
        if len(body) > self.max_result_bytes:
            raise OutputTooLarge(
                f"The result has {len(body)} bytes, over the limit of {self.max_result_bytes}.",
                limit_bytes=self.max_result_bytes,
            )


def use_threads(count: int) -> None:
    """Sets torch's CPU threads for calls from this thread; 0 leaves them as they are."""
    torch = sys.modules.get("torch")
    if torch is None or count in (0, getattr(_local, "threads", None)):
        return
    torch.set_num_threads(count)
    _local.threads = count
