"""Calls that wait together, run as one: for functions from a list to a list as long.

While a batch runs, the calls that arrive wait in the socket; the next batch is all of
them, up to `max_batch` items. Nothing waits for company: a lone call runs alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns

from dsfn.functions.codec import Encoded
from dsfn.functions.errors import CallCancelled, HandlerRaised
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.endpoint import Answer, Endpoint, Stopwatch
from dsfn.runtime.worker.frames import CallFrame
from dsfn.runtime.worker.runners import Finish, Runner, Send, outside


@dataclass(frozen=True, slots=True)
class _Member:
    """One call of a batch, decoded."""

    number: int
    call: CallFrame
    items: list[object]
    decode_us: int


class BatchRunner(Runner):
    """Runs calls in batches on the main thread."""

    def __init__(
        self,
        endpoint: Endpoint,
        loop: asyncio.AbstractEventLoop,
        send: Send,
        finish: Finish,
        max_batch: int,
    ) -> None:
        super().__init__(endpoint, loop, send, finish)
        self._max_batch = max_batch
        self._parameter = endpoint.signature.parameters[0].name
        self._waiting: deque[tuple[int, CallFrame]] = deque()

    def cancel(self, number: int) -> None:
        """Drops a call that waits; one that runs ends with its batch."""
        for entry in self._waiting:
            if entry[0] == number:
                self._waiting.remove(entry)
                error = CallCancelled("The call was cancelled.")
                self._end(self.endpoint.fault(number, Stopwatch(), error))
                return

    def acknowledge(self, number: int, count: int) -> None:
        """Nothing: there are no streams here."""

    def _start(self, number: int, call: CallFrame) -> None:
        if not self._waiting:
            self.loop.call_soon(self._run_next)
        self._waiting.append((number, call))

    def _run_next(self) -> None:
        batch = self._gather()
        if batch:
            self._run(batch)
        if self._waiting:
            self.loop.call_soon(self._run_next)

    def _gather(self) -> list[_Member]:
        """The calls of the next batch; those whose input is refused are answered here."""
        batch: list[_Member] = []
        size = 0
        while self._waiting:
            number, call = self._waiting[0]
            watch = Stopwatch()
            try:
                items = self.endpoint.decode(call)[self._parameter]
            except Exception as error:  # noqa: BLE001  decoding runs validators of user code
                self._waiting.popleft()
                self._end(self.endpoint.fault(number, watch, error))
                continue
            assert isinstance(items, list)
            if batch and size + len(items) > self._max_batch:
                break
            self._waiting.popleft()
            batch.append(_Member(number, call, items, watch.read_us()))
            size += len(items)
        return batch

    def _run(self, batch: list[_Member]) -> None:
        watch = Stopwatch()
        try:
            results = self._call([item for member in batch for item in member.items])
        except BaseException as error:  # noqa: BLE001  whatever user code raises
            if len(batch) == 1:
                self._end(self.endpoint.fault(batch[0].number, watch, error))
                return
            # One bad item must not fail its neighbours: each call for itself.
            for member in batch:
                self._run([member])
            return
        shares = split(watch.read_us(), [len(member.items) for member in batch])
        at = 0
        for member, share_us in zip(batch, shares, strict=True):
            result = results[at : at + len(member.items)]
            at += len(member.items)
            self._end(self._answer(member, share_us, result))

    def _call(self, items: list[object]) -> list[object]:
        with outside(self.loop):
            results = self.endpoint.handler(**{self._parameter: items})
        if not isinstance(results, list) or len(results) != len(items):
            raise HandlerRaised(
                f"A function with max_batch must give a list as long as its input, here of"
                f" {len(items)} items.",
                exception="ResultError",
                traceback="",
            )
        return results

    def _answer(self, member: _Member, share_us: int, result: list[object]) -> Answer:
        began_ns = perf_counter_ns()
        try:
            encoded: Encoded = self.endpoint.encode(result, member.call.accept)
        except Exception as error:  # noqa: BLE001  encoding runs serialisers of user code
            return self.endpoint.fault(member.number, Stopwatch(), error)
        busy_us = member.decode_us + share_us + (perf_counter_ns() - began_ns) // 1000
        return Answer(
            frames.encode_result(member.number, busy_us, encoded.content_type, encoded.body)
        )


def split(total_us: int, weights: Sequence[int]) -> list[int]:
    """`total_us` in proportion to `weights`, by largest remainder: the shares add up to it.

    All weights zero means equal weights.
    """
    whole = sum(weights)
    if whole == 0:
        return split(total_us, [1] * len(weights))
    shares = [total_us * weight // whole for weight in weights]
    by_remainder = sorted(
        range(len(weights)), key=lambda i: (total_us * weights[i]) % whole, reverse=True
    )
    for i in by_remainder[: total_us - sum(shares)]:
        shares[i] += 1
    return shares
