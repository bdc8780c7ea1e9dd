"""Tensors as rows of a table over storages, and back."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from dsfn.snapshots.format import (
    ITEM_BYTES,
    SLAB_DTYPES,
    SLAB_ITEM_BYTES,
    Storage,
    TensorEntry,
    corrupt,
)
from dsfn.snapshots.memory import Slab

_TORCH_DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, name) for name in ITEM_BYTES if hasattr(torch, name)
}
_RESERVED_NAMES = ("__", "storage.")
_NAMES: Mapping[torch.dtype, str] = {dtype: name for name, dtype in _TORCH_DTYPES.items()}


class UnsupportedTensor(Exception):
    """A tensor that a slab cannot hold; says why."""


class TensorTable:
    """Collects tensors while a state is pickled: each tensor and each storage once.

    `device` is that of all of them, None before the first. Holds on to every tensor it has
    seen, so that no address is used twice.
    """

    def __init__(self) -> None:
        self._tensors: dict[int, tuple[int, torch.Tensor]] = {}
        self._storages: dict[int, int] = {}
        self._contents: list[torch.UntypedStorage] = []
        self.rows: list[TensorEntry] = []
        self.device: torch.device | None = None

    def add(self, tensor: torch.Tensor) -> int:
        """The tensor's row. Raises `UnsupportedTensor`."""
        known = self._tensors.get(id(tensor))
        if known is not None:
            return known[0]
        check_supported(tensor)
        self._check_device(tensor.device)
        self.rows.append(table_row(self._storage(tensor.untyped_storage()), tensor))
        index = len(self.rows) - 1
        self._tensors[id(tensor)] = (index, tensor)
        return index

    def storages(self, names: Mapping[int, str]) -> list[Storage]:
        """The storages as entries of a slab, not yet placed (offset 0).

        A storage that one whole tensor fills has that tensor's shape, and the name
        that `names` has for its address if that is free; another is a flat array.
        """
        views: list[set[TensorEntry]] = [set() for _ in self._contents]
        for row in self.rows:
            views[row.storage].add(replace(row, requires_grad=False, parameter=False))
        entries: list[Storage] = []
        taken: set[str] = set()
        for index, content in enumerate(self._contents):
            dtype, shape, whole = _as_array(views[index], content.nbytes())
            name = names.get(content.data_ptr(), "") if whole else ""
            if not _is_free(name, taken):
                name = f"storage.{index}"
            taken.add(name)
            entries.append(Storage(name, 0, content.nbytes(), dtype, shape))
        return entries

    def contents(self) -> Iterator[memoryview]:
        """The storages' bytes, in order; those on a GPU are copied from it one by one."""
        if self.device is not None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return map(storage_bytes, self._contents)

    def _check_device(self, device: torch.device) -> None:
        if self.device is None:
            self.device = device
        elif device != self.device:
            reason = f"tensors on {self.device} and on {device} cannot be captured together"
            raise UnsupportedTensor(reason)

    def _storage(self, storage: torch.UntypedStorage) -> int:
        # Two storages over the same memory (two `from_numpy` of one array) are one in the slab.
        key = storage.data_ptr() or storage._cdata
        index = self._storages.get(key)
        if index is None:
            index = self._storages[key] = len(self._contents)
            self._contents.append(storage)
        elif storage.nbytes() > self._contents[index].nbytes():
            self._contents[index] = storage
        return index


def table_row(storage: int, tensor: torch.Tensor) -> TensorEntry:
    """The tensor as a view of the storage number `storage`."""
    return TensorEntry(
        storage=storage,
        dtype=_NAMES[tensor.dtype],
        shape=tuple(tensor.shape),
        stride=tuple(tensor.stride()),
        offset=int(tensor.storage_offset()),
        requires_grad=tensor.requires_grad,
        parameter=isinstance(tensor, torch.nn.Parameter),
    )


def storage_bytes(storage: torch.UntypedStorage) -> memoryview:
    """A storage's bytes, which the view keeps alive; without a copy if it is the CPU's."""
    size_bytes = storage.nbytes()
    if not size_bytes:
        return memoryview(b"")
    here = storage.cpu()  # type: ignore[no-untyped-call]  # torch leaves it so
    array = (ctypes.c_char * size_bytes).from_address(here.data_ptr())
    array.storage = here  # type: ignore[attr-defined]
    return memoryview(array).cast("B")


def map_storages(slab: Slab, storages: Sequence[Storage]) -> list[torch.UntypedStorage]:
    """Each storage of the table over the slab's memory."""
    return [slab.storage(storage.offset, storage.size_bytes) for storage in storages]


def build_tensors(
    rows: Sequence[TensorEntry], storages: Sequence[torch.UntypedStorage]
) -> list[torch.Tensor]:
    """The tensors of the table as views of their storages; nothing is copied.

    Raises `CorruptSnapshot` for a dtype that this torch does not have.
    """
    tensors: list[torch.Tensor] = []
    for row in rows:
        dtype, storage = _TORCH_DTYPES.get(row.dtype), storages[row.storage]
        if dtype is None:
            corrupt(f"this torch has no dtype {row.dtype!r}")
        tensor = torch.empty(0, dtype=dtype, device=storage.device)
        tensor.set_(storage, row.offset, row.shape, row.stride)
        if row.parameter:
            tensor = torch.Tensor._make_subclass(torch.nn.Parameter, tensor, row.requires_grad)
        elif row.requires_grad:
            tensor.requires_grad_(True)
        tensors.append(tensor)
    return tensors


def _as_array(views: set[TensorEntry], size_bytes: int) -> tuple[str, tuple[int, ...], bool]:
    """How a slab's entry shows a storage: dtype, shape, and whether that is a tensor's own."""
    dtypes = {view.dtype for view in views}
    dtype = dtypes.pop() if len(dtypes) == 1 else "uint8"
    item_bytes = ITEM_BYTES[dtype]
    if SLAB_ITEM_BYTES[SLAB_DTYPES[dtype]] != item_bytes or size_bytes % item_bytes:
        return "U8", (size_bytes,), False
    for view in views:
        whole = math.prod(view.shape) * item_bytes == size_bytes and view.offset == 0
        if len(views) == 1 and whole and _is_contiguous(view):
            return SLAB_DTYPES[dtype], view.shape, True
    return SLAB_DTYPES[dtype], (size_bytes // item_bytes,), False


def _is_free(name: str, taken: set[str]) -> bool:
    # Printable: a name that UTF-8 cannot encode would spoil the slab's header.
    fits = name.isprintable() and not name.startswith(_RESERVED_NAMES)
    return bool(name) and fits and name not in taken


def _is_contiguous(view: TensorEntry) -> bool:
    step = 1
    for length, stride in zip(reversed(view.shape), reversed(view.stride), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True


def check_supported(tensor: torch.Tensor) -> None:
    """Raises `UnsupportedTensor` if a slab cannot hold `tensor`."""
    reason = _why_not(tensor)
    if reason is not None:
        raise UnsupportedTensor(reason)


def _why_not(tensor: torch.Tensor) -> str | None:
    if tensor.device.type == "meta":
        return "a tensor on the meta device has no bytes"
    if tensor.device.type not in ("cpu", "cuda"):
        return f"a tensor on the device {tensor.device} cannot be captured"
    if tensor.is_nested:
        return "nested tensors cannot be captured"
    if tensor.layout is not torch.strided:
        return f"tensors of layout {tensor.layout} cannot be captured"
    if tensor.is_quantized:
        return "quantized tensors cannot be captured"
    if tensor.is_conj() or tensor.is_neg():
        return "a lazily conjugated or negated tensor cannot be captured; resolve it first"
    if tensor.dtype not in _NAMES:
        return f"tensors of {tensor.dtype} cannot be captured"
    if torch.nn.parameter.is_lazy(tensor):
        return "an uninitialized parameter cannot be captured; run the model once first"
    return None
