"""Calls that wait together, run as one: for functions from a list to a list as long.

While a batch runs, the calls that arrive wait in the socket; the next batch is all of
them, up to `max_batch` items. Nothing waits for company: a lone call runs alone. The node
is told of each batch before it runs, so that its time is divided among its calls alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence

from dsfn.billing.splitting import by_weight
from dsfn.functions.batching import MAX_WEIGHT
from dsfn.functions.codec import Encoded
from dsfn.functions.errors import CallCancelled, HandlerRaised
from dsfn.functions.values import dataclass
from dsfn.runtime.worker import frames
from dsfn.runtime.worker.endpoint import Answer, Endpoint
from dsfn.runtime.worker.frames import CallFrame
from dsfn.runtime.worker.runners import Finish, Runner, Send, outside
from dsfn.runtime.worker.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class _Member:
    """One call of a batch, decoded; `watch` has counted that, and is paused."""

    number: int
    call: CallFrame
    items: list[object]
    weight: int
    watch: Stopwatch


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
        self._under_way = False

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
        self._waiting.append((number, call))
        if not self._under_way:
            self._under_way = True
            self.loop.call_soon(self._begin_next)

    def _begin_next(self) -> None:
        batch = self._gather()
        if batch:
            self.send(frames.encode_batch(_weights(batch)))
            # In a turn of its own: what was sent has left when it blocks the loop.
            self.loop.call_soon(self._run_next, batch)
        else:
            self._under_way = False

    def _run_next(self, batch: list[_Member]) -> None:
        self._run(batch)
        if self._waiting:
            self.loop.call_soon(self._begin_next)
        else:
            self._under_way = False

    def _gather(self) -> list[_Member]:
        """The calls of the next batch; those whose input is refused are answered here."""
        batch: list[_Member] = []
        size = 0
        while self._waiting:
            number, call = self._waiting[0]
            watch = self.endpoint.stopwatch()
            try:
                items = self.endpoint.decode(call)[self._parameter]
                assert isinstance(items, list)
                weight = self._weight(items)
            except Exception as error:  # noqa: BLE001  validators and weights are user code
                self._waiting.popleft()
                self._end(self.endpoint.fault(number, watch, error))
                continue
            if batch and size + len(items) > self._max_batch:
                break
            self._waiting.popleft()
            watch.pause()
            batch.append(_Member(number, call, items, weight, watch))
            size += len(items)
        return batch

    def _weight(self, items: list[object]) -> int:
        """How much of a batch's time is that of a call with these items."""
        weigh = self.endpoint.weight
        if weigh is None:
            return len(items)
        weights = [weigh(item) for item in items]
        for weight in weights:
            if type(weight) is not int or not 0 <= weight <= MAX_WEIGHT:
                raise HandlerRaised(
                    f"A weight must be a whole number from 0 to {MAX_WEIGHT}, not {weight!r}.",
                    exception="WeightError",
                    traceback="",
                )
        return sum(weights)

    def _run(self, batch: list[_Member]) -> None:
        watch = self.endpoint.stopwatch()
        try:
            results = self._call([item for member in batch for item in member.items], watch)
        except BaseException as error:  # noqa: BLE001  whatever user code raises
            if len(batch) == 1:
                self._end(self.endpoint.fault(batch[0].number, watch, error))
                return
            # One bad item must not fail its neighbours: each call for itself.
            for member in batch:
                self._run([member])
            return
        shares = by_weight(watch.read_us(), [member.weight for member in batch])
        at = 0
        for member, share_us in zip(batch, shares, strict=True):
            result = results[at : at + len(member.items)]
            at += len(member.items)
            self._end(self._answer(member, share_us, result))

    def _call(self, items: list[object], watch: Stopwatch) -> list[object]:
        with outside(self.loop):
            watch.computes()
            results = self.endpoint.handler(**{self._parameter: items})
            watch.computed()
        if not isinstance(results, list) or len(results) != len(items):
            raise HandlerRaised(
                f"A function with max_batch must give a list as long as its input, here of"
                f" {len(items)} items.",
                exception="ResultError",
                traceback="",
            )
        return results

    def _answer(self, member: _Member, share_us: int, result: list[object]) -> Answer:
        member.watch.resume()
        member.watch.add(share_us)
        try:
            encoded: Encoded = self.endpoint.encode(result, member.call.accept)
        except Exception as error:  # noqa: BLE001  encoding runs serialisers of user code
            return self.endpoint.fault(member.number, member.watch, error)
        return self.endpoint.result(member.number, member.watch, encoded)


def _weights(batch: Sequence[_Member]) -> Iterator[tuple[int, int]]:
    """The calls of a batch by number; where none has a weight, all have the same."""
    weighed = any(member.weight for member in batch)
    for member in batch:
        yield member.number, member.weight if weighed else 1
