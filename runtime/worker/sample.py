"""A function's own sample: calls of it that a deployment makes, and what they show.

Needs torch, as snapshots do.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from dsfn.functions.codec import encode_item, encode_result, stream_content_type
from dsfn.functions.errors import CorruptSnapshot, DeployError, SetupError, SnapshotError
from dsfn.functions.function import Function
from dsfn.functions.sample import check_sample
from dsfn.functions.values import dataclass
from dsfn.runtime.worker.faults import author_fault, gpu_memory_full, is_gpu_memory_full
from dsfn.runtime.worker.replica import refresh
from dsfn.snapshots.capture import attributes_of
from dsfn.snapshots.golden import MAX_GOLDEN_BYTES, Golden, difference
from dsfn.snapshots.recorder import FirstUse

T = TypeVar("T")

_SEED = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """What calls of the sample showed. `answer`: of the first; `golden`: the same, None when
    `why_none`.

    `first_use`: addresses as `capture` takes them. `workspace_bytes`: what the calls had of a
    GPU's memory at once beside what was there before, on the GPU where that was most.
    """

    answer: Golden
    golden: Golden | None = None
    why_none: str | None = None
    first_use: tuple[int, ...] = ()
    workspace_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """The sample of an instance that is loaded."""

    function: Function[..., Any]
    instance: Any
    bundle: Path

    @classmethod
    def of(cls, function: Function[..., Any], instance: Any, bundle: Path) -> Sample | None:
        """The sample, if the function's class has one."""
        has_one = hasattr(function.target, "sample")
        return cls(function, instance, bundle) if has_one else None

    def record(self) -> Trial:
        """Calls it twice, as a first and as a later call.

        Raises `DefinitionError` when it gives what no call could have, `SetupError` when it
        fails, `MemoryFull`.
        """
        memory, recorder = _Memory(), FirstUse()
        with asyncio.Runner() as loop:
            first = self._watched(recorder, loop)
            other = difference(first, self._answer(loop))
        size = len(first.data)
        why_none = None
        if other is not None:
            why_none = f"two calls with the same input gave two outputs: {other}"
        elif size > MAX_GOLDEN_BYTES:
            why_none = f"the output has {size} bytes, over the limit of {MAX_GOLDEN_BYTES}"
        golden = first if why_none is None else None
        return Trial(first, golden, why_none, recorder.addresses, memory.peak_bytes())

    def answer(self) -> Golden:
        """Calls it once. Raises as `record`."""
        with asyncio.Runner() as loop:
            return self._answer(loop)

    def compare(self, golden: Golden | None) -> None:
        """Calls it once. Raises `SnapshotError` when it fails, `CorruptSnapshot` when it answers
        otherwise than before the capture, `MemoryFull`."""
        try:
            found = self.answer()
        except DeployError as error:
            raise SnapshotError(
                f"Restored, the function fails with its sample. {error.message}"
            ) from error
        why = None if golden is None else difference(golden, found)
        if why is not None:
            raise CorruptSnapshot(
                f"Restored, the function answers its sample otherwise: {why}.", reason=why
            )

    def _watched(self, recorder: FirstUse, loop: asyncio.Runner) -> Golden:
        try:
            with recorder:
                return self._answer(loop)
        except SetupError as error:
            if not isinstance(error.__cause__, Exception):  # it hung, and has no time left
                raise
        return self._answer(loop)  # perhaps its code cannot do with a recorder, and can without

    def _answer(self, loop: asyncio.Runner) -> Golden:
        """One call, encoded as for a client that takes anything. Raises as `record`."""
        arguments = check_sample(self.function.signature, self._run("sample()", self._given))
        _seed()
        return self._run("The call with the sample", lambda: self._call(arguments, loop))

    def _given(self) -> object:
        return self.instance.sample()

    def _call(self, arguments: dict[str, object], loop: asyncio.Runner) -> Golden:
        signature = self.function.signature
        value = self.instance(**arguments)
        if signature.result.streaming:
            encode = partial(encode_item, signature)
            whole = _join(value, encode) if isinstance(value, Iterable) else None
            body = loop.run(_join_async(value, encode)) if whole is None else whole
            return Golden(stream_content_type(signature.result.kind), body)
        if inspect.isawaitable(value):
            value = loop.run(_result(value))
        encoded = encode_result(signature, value)
        return Golden(encoded.content_type, encoded.body)

    def _run(self, what: str, run: Callable[[], T]) -> T:
        name = self.function.options.name
        try:
            return run()
        except BaseException as error:  # whatever an author's code raises, sys.exit() included
            if is_gpu_memory_full(error):
                raise gpu_memory_full() from error
            whole = f"{what} of {name!r}"
            raise author_fault(SetupError, whole, error, self.bundle, name) from error


@contextmanager
def refreshed(function: Function[..., Any], instance: Any, bundle: Path) -> Iterator[None]:
    """Inside, `after_restore()` has run. What it set on the instance is not there any more
    afterwards: each replica makes its own. Raises `SetupError`."""
    before = attributes_of(instance)
    refresh(function, instance, bundle)
    own = [
        name
        for name, value in attributes_of(instance).items()
        if name not in before or before[name] is not value
    ]
    yield
    put_back(instance, before, own)


def put_back(instance: Any, before: Mapping[str, object], names: Iterable[str]) -> None:
    """Makes these attributes what they were when they were `before`."""
    there = attributes_of(instance)
    for name in names:
        if name in before:
            object.__setattr__(instance, name, before[name])
        elif name in there:
            object.__delattr__(instance, name)


async def _result(value: Any) -> Any:
    return await value


def _join(items: Iterable[Any], encode: Callable[[Any], bytes]) -> bytes:
    """A whole stream, or so much of it that it is over the limit."""
    stream = bytearray()
    for item in items:
        stream += encode(item)
        if len(stream) > MAX_GOLDEN_BYTES:
            break
    return bytes(stream)


async def _join_async(items: AsyncIterator[Any], encode: Callable[[Any], bytes]) -> bytes:
    stream = bytearray()
    async for item in items:
        stream += encode(item)
        if len(stream) > MAX_GOLDEN_BYTES:
            break
    return bytes(stream)


def _seed() -> None:
    """The same chance for each call, so that a function that draws can have a golden output."""
    random.seed(_SEED)
    torch.manual_seed(_SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(_SEED)


class _Memory:
    """What torch has of each GPU's memory, from now on."""

    def __init__(self) -> None:
        self._before: dict[int, int] = {}
        for index in _gpus():
            torch.cuda.reset_peak_memory_stats(index)
            self._before[index] = torch.cuda.memory_allocated(index)

    def peak_bytes(self) -> int:
        """The most that was added at once, on one GPU."""
        return max(
            (torch.cuda.max_memory_allocated(n) - self._before.get(n, 0) for n in _gpus()),
            default=0,
        )


def _gpus() -> Iterable[int]:
    """The GPUs that torch has touched in this process."""
    touched: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return range(torch.cuda.device_count()) if touched else ()
