"""Every operation of torch, seen before it runs: it waits for the tensors that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import NoneType
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)

from dsfn.snapshots.arriving import Arriving
from dsfn.snapshots.operations import reads_nothing

_TENSORS = frozenset({torch.Tensor, torch.nn.Parameter, torch.nn.Buffer})
_NO_TENSORS = frozenset(
    {
        NoneType,
        bool,
        complex,
        float,
        int,
        str,
        torch.Generator,
        torch.device,
        torch.dtype,
        torch.layout,
        torch.memory_format,
    }
)
# They read what their argument's storage has beside it.
_READS_BEYOND = frozenset(
    {torch.ops.aten.as_strided_copy.default, torch.ops.aten.as_strided_scatter.default}
)
# Not torch.Tensor's own, which may be replaced while a gate is shut.
_address = torch._C.TensorBase.data_ptr
_storage = torch._C.TensorBase.untyped_storage


class GateMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    """Makes operations wait for their tensors, until all has arrived: then it is `open`, and
    `opened` is called.

    https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-with-native-api
    """

    supports_higher_order_operators = True

    def __init__(self, arriving: Arriving, opened: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self.open = False
        self._arriving = arriving
        self._opened = opened
        self._begin = min(span.begin for span in arriving.spans)
        self._end = max(span.end for span in arriving.spans)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would wrap what runs for every operation

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Part of `TorchDispatchMode`. Raises as `dsfn.snapshots.memory.Arrival.wait`."""
        if not self.open:
            self._admit(func, args)
            if kwargs:
                self._admit(func, kwargs.values())
        return func(*args, **kwargs) if kwargs else func(*args)

    def wait_for_storage(self, tensor: torch.Tensor) -> None:
        """Waits until all of the memory that `tensor` is a view of is there."""
        try:
            storage = _storage(tensor)
        except (RuntimeError, NotImplementedError):  # it has others inside
            self.wait_for_all()
        else:
            self._wait_for_storage(storage)

    def wait_for_all(self) -> None:
        """Waits until all is there."""
        self._arriving.wait_for_all()
        self._open_if_complete()

    def is_pushed(self) -> bool:
        """Whether this thread's operations pass through here. Not inside `__torch_dispatch__`:
        torch takes a mode away for that."""
        return any(mode is self for mode in _get_current_dispatch_mode_stack())

    def remove(self) -> None:
        """Has them do so no more, if they do; modes of others that lie over this one stay."""
        if not self.is_pushed():
            return
        others = []
        while (mode := _pop_mode()) is not self:
            others.append(mode)
        for mode in reversed(others):
            _push_mode(mode)

    def tidy(self) -> None:
        """For after `remove`, when a context ends that was entered before and has made this
        thread what it was then: one that has modes, though it has none."""
        if not _get_current_dispatch_mode_stack():
            _push_mode(self)
            _pop_mode()

    def _open_if_complete(self) -> None:
        if not self.open and self._arriving.complete:
            self.open = True
            self._opened()

    def _wait_for_storage(self, storage: torch.UntypedStorage) -> None:
        begin = storage.data_ptr()
        self._arriving.wait_for(begin, begin + storage.nbytes())
        self._open_if_complete()

    def _admit(self, func: Callable[..., Any], values: Iterable[Any]) -> None:
        # Runs before every operation: hence no calls for what has nothing to wait for.
        if type(func) is not OpOverload:  # it takes functions, and what they use is unknown
            self.wait_for_all()
            return
        for value in values:
            kind = type(value)
            if kind in _TENSORS:
                try:
                    begin = _address(value)
                except RuntimeError:  # sparse, say: it has others inside
                    self.wait_for_all()
                else:
                    if self._begin <= begin < self._end:
                        self._touch(func, value, begin)
            elif kind not in _NO_TENSORS:
                self._admit_other(func, value)

    def _admit_other(self, func: Callable[..., Any], value: Any) -> None:
        if isinstance(value, list | tuple):
            self._admit(func, value)
        elif isinstance(value, dict):
            self._admit(func, value.values())
        elif isinstance(value, torch.UntypedStorage):
            self._wait_for_storage(value)
        elif isinstance(value, torch.Tensor) and _is_plain(type(value)):
            self._admit(func, (value.as_subclass(torch.Tensor),))
        else:  # tensors made of tensors, objects of C++ that may hold some
            self.wait_for_all()

    def _touch(self, func: OpOverload[..., Any], tensor: torch.Tensor, begin: int) -> None:
        if func in _READS_BEYOND:
            self.wait_for_storage(tensor)
            return
        end = begin + extent_bytes(tensor)
        for span in self._arriving.spans:
            here = span.begin <= begin < span.end
            if here and end > span.ready and not reads_nothing(func):
                self._arriving.wait(span, end)
                self._open_if_complete()


def extent_bytes(tensor: torch.Tensor) -> int:
    """How many bytes lie between a strided tensor's first byte and its last."""
    if tensor.is_contiguous():
        return tensor.nbytes
    if not tensor.numel():
        return 0
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((length - 1) * step for length, step in steps)
    return (last + 1) * tensor.element_size()


@cache
def _is_plain(kind: type[torch.Tensor]) -> bool:
    """Whether a tensor of this class is one of its own bytes, and not made of others."""
    return kind.__torch_dispatch__ is torch._C._disabled_torch_dispatch_impl
