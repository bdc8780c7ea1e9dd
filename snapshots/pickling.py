"""Pickling with the tensors left out, and user code named by what it is called.

A persistent id is the row of a tensor (int), "self" (the instance whose state it
is) or "class:NAME" (a class or function behind a wrapper).
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any

import torch

from dsfn.functions.errors import SnapshotError
from dsfn.functions.function import Function
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import corrupt
from dsfn.snapshots.scripted import is_scripted, load_scripted, save_scripted
from dsfn.snapshots.tensors import TensorTable, UnsupportedTensor, check_supported

_SELF = "self"
_CLASS = "class:"
_PLAIN = (torch.Tensor, torch.nn.Parameter)


class StatePickler(pickle.Pickler):
    """Writes objects to `file` and puts their tensors into `table`."""

    def __init__(
        self, file: io.BytesIO, table: TensorTable, classes: Classes, instance: object
    ) -> None:
        super().__init__(file, protocol=5)
        self._table = table
        self._classes = classes
        self._instance = instance

    def persistent_id(self, obj: Any) -> int | str | None:
        """The row of a plain tensor, the name of the instance or of wrapped code, or None."""
        if isinstance(obj, torch.Tensor):
            return self._table.add(obj) if _is_plain(obj) else None
        if obj is self._instance and obj is not None:
            return _SELF
        if isinstance(obj, type | FunctionType):
            name = self._classes.name_of(obj)
            return None if name is None else _CLASS + name
        return None

    def reducer_override(self, obj: Any) -> Any:
        """How tensors with more to them, TorchScript, modules and wrappers are written."""
        if isinstance(obj, torch.Tensor):
            return _reduce_tensor(obj)
        if is_scripted(obj):
            return load_scripted, save_scripted(obj)
        if isinstance(obj, ModuleType):
            return importlib.import_module, (obj.__name__,)
        if isinstance(obj, Function):
            return obj.__name__  # a global of the module that it says it is from
        if isinstance(obj, torch.UntypedStorage | torch.TypedStorage):
            raise UnsupportedTensor("a bare storage cannot be captured; keep a tensor over it")
        return NotImplemented


class StateUnpickler(pickle.Unpickler):
    """Reads objects back, with `tensors` in the places they were taken from."""

    def __init__(
        self,
        file: io.BytesIO,
        tensors: Sequence[torch.Tensor],
        classes: Classes,
        instance: object,
    ) -> None:
        super().__init__(file)
        self._tensors = tensors
        self._classes = classes
        self._instance = instance

    def persistent_load(self, pid: Any) -> object:
        """What a persistent id stands for. Raises `SnapshotError`."""
        if type(pid) is int and 0 <= pid < len(self._tensors):
            return self._tensors[pid]
        if pid == _SELF:
            if self._instance is None:
                raise SnapshotError("The state refers to its own instance, and none was given.")
            return self._instance
        if type(pid) is str and pid.startswith(_CLASS):
            return self._classes.resolve(pid.removeprefix(_CLASS))
        corrupt(f"the objects refer to {pid!r}, which there is not")


def dump_state(value: object, table: TensorTable, classes: Classes, instance: object) -> memoryview:
    """`value` pickled, its tensors added to `table`. Raises whatever pickling raises."""
    file = io.BytesIO()
    StatePickler(file, table, classes, instance).dump(value)
    return file.getbuffer()


def load_state(
    data: bytes, tensors: Sequence[torch.Tensor], classes: Classes, instance: object
) -> object:
    """What `dump_state` pickled. Raises whatever unpickling raises."""
    return StateUnpickler(io.BytesIO(data), tensors, classes, instance).load()


def _is_plain(tensor: torch.Tensor) -> bool:
    return type(tensor) in _PLAIN and not tensor.__dict__


def _reduce_tensor(tensor: torch.Tensor) -> tuple[Callable[..., object], Any, Any, None, None, Any]:
    check_supported(tensor)
    kind = type(tensor)
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise UnsupportedTensor(f"tensors of class {kind.__qualname__} cannot be captured")
    with torch._C.DisableTorchFunctionSubclass():
        plain = torch.Tensor._make_subclass(torch.Tensor, tensor, tensor.requires_grad)
    return _special_tensor, (kind, plain), tensor.__dict__ or None, None, None, _set_attributes


def _special_tensor(kind: type[torch.Tensor], plain: torch.Tensor) -> torch.Tensor:
    return torch.Tensor._make_subclass(kind, plain, plain.requires_grad)


def _set_attributes(tensor: torch.Tensor, attributes: dict[str, object]) -> None:
    tensor.__dict__.update(attributes)
