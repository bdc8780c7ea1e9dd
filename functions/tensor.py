"""Tensors as they travel: one tensor in the safetensors format, whatever library made it.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import ctypes
import json
import struct
from collections.abc import Callable
from dataclasses import field
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from dsfn.functions.interface import CONTENT_TYPES, Kind
from dsfn.functions.invalid import invalid
from dsfn.functions.part import Part
from dsfn.functions.values import dataclass

if TYPE_CHECKING:
    from numpy.typing import NDArray

TENSOR_NAME = "tensor"

# safetensors' name -> (the name that NumPy and torch give it, bytes of an element)
DTYPES: dict[str, tuple[str, int]] = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F32": ("float32", 4),
    "F64": ("float64", 8),
    "C64": ("complex64", 8),
}
_BY_NAME = {name: dtype for dtype, (name, _) in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Tensor(Part):
    """A dense tensor: `data` holds the elements in C order, little-endian.

    `dtype` is safetensors' name of it: "F32", "BF16", "I64", "BOOL", ...
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes = field(repr=False)

    kind: ClassVar[Kind] = "tensor"
    needs: ClassVar[str] = "safetensors"
    content_type: ClassVar[str] = CONTENT_TYPES["tensor"]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"{self.dtype!r} is not a dtype that a Tensor can have.")
        expected = prod(self.shape) * DTYPES[self.dtype][1]
        if min(self.shape, default=0) < 0 or len(self.data) != expected:
            raise ValueError(
                f"A {self.dtype} tensor of shape {self.shape} has {expected} bytes,"
                f" not {len(self.data)}."
            )

    @classmethod
    def of(cls, array: Any) -> Tensor:
        """Copies a NumPy array, a torch tensor (of any device) or nested lists of numbers.

        Raises `TypeError` when its dtype has no safetensors name.
        """
        return _of_torch(array) if hasattr(array, "data_ptr") else _of_array(array)

    def numpy(self) -> NDArray[Any]:
        """A writable NumPy copy. bfloat16, which NumPy lacks, widens to float32 exactly.

        Raises `TypeError` for float8.
        """
        import numpy as np

        return np.array(self.__array__())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        import numpy as np

        if self.dtype.startswith("F8"):
            raise TypeError(f"NumPy has no {self.dtype}; read the bytes in `data` instead.")
        if self.dtype == "BF16":
            wide = np.frombuffer(self.data, "<u2").astype("<u4") << np.uint32(16)
            view = wide.view("<f4").reshape(self.shape)
        else:
            name = np.dtype(DTYPES[self.dtype][0]).newbyteorder("<")
            view = np.frombuffer(self.data, name).reshape(self.shape)
        return view if dtype is None and not copy else np.array(view, dtype=dtype)

    def encoded(self) -> bytes:
        """The safetensors bytes: one tensor named "tensor"."""
        view = {"dtype": self.dtype, "shape": self.shape, "data_offsets": [0, len(self.data)]}
        header = json.dumps({TENSOR_NAME: view}, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        return struct.pack("<Q", len(header)) + header + self.data

    @classmethod
    def decoded(cls, data: bytes, field: str = TENSOR_NAME) -> Tensor:
        """Reads safetensors bytes that hold one tensor. Raises `InvalidInput` naming `field`."""
        import safetensors

        deserialize: Callable[[bytes], list[tuple[str, Any]]] = safetensors.deserialize
        try:
            tensors = deserialize(data)
        except safetensors.SafetensorError as error:
            raise invalid(field, f"is not a safetensors file ({error})") from error
        if len(tensors) != 1:
            raise invalid(field, f"must hold one tensor, not {len(tensors)}")
        view = tensors[0][1]
        if view["dtype"] not in DTYPES:
            raise invalid(field, f"has the unsupported dtype {view['dtype']}")
        return cls(view["dtype"], tuple(view["shape"]), bytes(view["data"]))


def _of_torch(array: Any) -> Tensor:
    dtype = _BY_NAME.get(str(array.dtype).removeprefix("torch."))
    if dtype is None or str(array.layout) != "torch.strided":
        raise TypeError(f"A Tensor cannot hold {array.dtype} in layout {array.layout}.")
    dense = array.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # Read from memory, because bfloat16 and float8 have no way through NumPy.
    data = ctypes.string_at(dense.data_ptr(), dense.numel() * dense.element_size())
    return Tensor(dtype, tuple(dense.shape), data)


def _of_array(array: Any) -> Tensor:
    import numpy as np

    values = np.asarray(array)
    dtype = _BY_NAME.get(values.dtype.name)
    if dtype is None:
        raise TypeError(f"A Tensor cannot hold values of NumPy's dtype {values.dtype}.")
    if values.dtype.byteorder == ">":
        values = values.astype(values.dtype.newbyteorder("<"))
    return Tensor(dtype, tuple(values.shape), values.tobytes())
