"""Tensors as rows of a table over storages, and back."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from dsfn.functions.values import dataclass
from dsfn.snapshots.format import (
    CPU,
    DEVICES,
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


Place = Callable[[torch.Tensor], str]
"""Says which slab a tensor belongs in, by its device: one of `dsfn.snapshots.format.DEVICES`."""


class UnsupportedTensor(Exception):
    """A tensor that a slab cannot hold; says why."""


@dataclass(frozen=True, slots=True)
class Arranged:
    """A table ready to be written: storages one slab after the other, `offset` still 0.

    `device_class` is as in a manifest, `devices` are those of the slabs, `first_use` as in
    their entries, `contents` the storages' bytes.
    """

    device_class: str
    devices: tuple[str, ...]
    first_use: tuple[int, ...]
    storages: tuple[Storage, ...]
    contents: Iterator[memoryview]
    tensors: tuple[TensorEntry, ...]


@dataclass(frozen=True, slots=True)
class _Content:
    """A storage and the device whose slab it belongs in."""

    device: str
    storage: torch.UntypedStorage


def own_slab(tensor: torch.Tensor) -> str:
    """The slab of the device that a tensor is on."""
    return CPU if tensor.device.type == "cpu" else f"gpu:{tensor.get_device()}"


def address_of(tensor: torch.Tensor) -> int | None:
    """Where a tensor's storage begins; None when it has no memory of its own (sparse, say, or
    made of other tensors)."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):
        return None


class TensorTable:
    """Collects tensors while a state is pickled: each tensor and each storage once.

    `place` is asked once for each storage. Holds on to every tensor it has seen, so that
    no address is used twice.
    """

    def __init__(self, place: Place = own_slab) -> None:
        self._place = place
        self._tensors: dict[int, tuple[int, torch.Tensor]] = {}
        self._storages: dict[tuple[torch.device, int], int] = {}
        self._contents: list[_Content] = []
        self._rows: list[TensorEntry] = []
        self._device_class = CPU

    def add(self, tensor: torch.Tensor) -> int:
        """The tensor's row. Raises `UnsupportedTensor`."""
        known = self._tensors.get(id(tensor))
        if known is not None:
            return known[0]
        check_supported(tensor)
        self._rows.append(table_row(self._storage(tensor), tensor))
        index = len(self._rows) - 1
        self._tensors[id(tensor)] = (index, tensor)
        return index

    def arranged(self, names: Mapping[int, str], first_use: Sequence[int] = ()) -> Arranged:
        """The storages in the order of the slabs, in each by the addresses in `first_use`, and
        then as they were added.

        A storage that one whole tensor fills has that tensor's shape, and the name
        that `names` has for its address if that is free; another is a flat array.
        """
        used = {address: place for place, address in enumerate(first_use)}
        devices = sorted({content.device for content in self._contents}, key=DEVICES.index)

        def place(index: int) -> tuple[int, int]:
            content = self._contents[index]
            last = len(used)
            return devices.index(content.device), used.get(content.storage.data_ptr(), last)

        order = sorted(range(len(self._contents)), key=place)
        index_of = {old: new for new, old in enumerate(order)}
        rows = tuple(replace(row, storage=index_of[row.storage]) for row in self._rows)
        contents = [self._contents[old] for old in order]
        slabs = [devices.index(content.device) for content in contents]
        storages = [content.storage for content in contents]
        return Arranged(
            device_class=self._device_class,
            devices=tuple(devices),
            first_use=tuple(
                sum(
                    content.device == device and content.storage.data_ptr() in used
                    for content in contents
                )
                for device in devices
            ),
            storages=tuple(_entries(rows, storages, slabs, names)),
            contents=_contents(storages),
            tensors=rows,
        )

    def _storage(self, tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        # Two storages over the same memory (two `from_numpy` of one array) are one in the slab.
        key = tensor.device, storage.data_ptr() or storage._cdata
        index = self._storages.get(key)
        if index is None:
            content = _Content(self._device(tensor), storage)
            index = self._storages[key] = len(self._contents)
            self._contents.append(content)
        elif storage.nbytes() > self._contents[index].storage.nbytes():
            self._contents[index] = replace(self._contents[index], storage=storage)
        return index

    def _device(self, tensor: torch.Tensor) -> str:
        if tensor.is_cuda:
            name = torch.cuda.get_device_name(tensor.device)
            if self._device_class not in (CPU, name):
                both = f"{self._device_class} and on {name}"
                raise UnsupportedTensor(f"tensors on {both} cannot be captured together")
            self._device_class = name
        device = self._place(tensor)
        if device not in DEVICES:
            raise UnsupportedTensor(f"there is no slab for a tensor on {device}")
        return device


def _entries(
    rows: Iterable[TensorEntry],
    storages: Sequence[torch.UntypedStorage],
    slabs: Sequence[int],
    names: Mapping[int, str],
) -> Iterator[Storage]:
    views: list[set[TensorEntry]] = [set() for _ in storages]
    for row in rows:
        views[row.storage].add(replace(row, requires_grad=False, parameter=False))
    taken: set[str] = set()
    for index, (storage, slab) in enumerate(zip(storages, slabs, strict=True)):
        dtype, shape, whole = _as_array(views[index], storage.nbytes())
        name = names.get(storage.data_ptr(), "") if whole else ""
        if not _is_free(name, taken):
            name = f"storage.{index}"
        taken.add(name)
        yield Storage(slab, name, 0, storage.nbytes(), dtype, shape)


def _contents(storages: Sequence[torch.UntypedStorage]) -> Iterator[memoryview]:
    """The storages' bytes, in order; those on a GPU are copied from it one by one."""
    for device in {storage.device for storage in storages if storage.device.type == "cuda"}:
        torch.cuda.synchronize(device)
    return map(storage_bytes, storages)


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


def map_storages(slabs: Sequence[Slab], storages: Sequence[Storage]) -> list[torch.UntypedStorage]:
    """Each storage of the table over its slab's memory."""
    return [slabs[each.slab].storage(each.offset, each.size_bytes) for each in storages]


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
