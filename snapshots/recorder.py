"""In which order a call uses the memory of a state: what a slab is laid out by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dsfn.snapshots.operations import reads_nothing
from dsfn.snapshots.tensors import address_of


class FirstUse(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    """While entered, notes the storages that this thread's operations read or write.

    `addresses` are those of the storages' first bytes, in the order of first use; those of
    memory that has come and gone meanwhile are among them. Views of a tensor are no use of it.
    What does not pass through torch's dispatcher (a CUDA graph, a kernel of another library,
    other threads) is not noted.
    https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-with-native-api
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self._seen: dict[int, None] = {}

    @property
    def addresses(self) -> tuple[int, ...]:
        """What was used, first things first."""
        return tuple(self._seen)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Part of `TorchDispatchMode`."""
        given = kwargs or {}
        if not reads_nothing(func):
            self._note(args)
            self._note(given.values())
        return func(*args, **given)

    def _note(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, torch.Tensor):
                self._note_tensor(value)
            elif isinstance(value, list | tuple):
                self._note(value)

    def _note_tensor(self, tensor: torch.Tensor) -> None:
        address = address_of(tensor)
        if address is not None:
            self._seen.setdefault(address)
