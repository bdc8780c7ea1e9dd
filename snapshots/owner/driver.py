"""The CUDA driver, with its error codes turned into errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

# cuda-bindings has no types.
from cuda.bindings import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    driver as driver,
)

from dsfn.functions.errors import DeviceFault

OUT_OF_MEMORY = int(driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY)
POSIX_FD = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR


def call(function: Callable[..., tuple[Any, ...]], *arguments: object) -> Any:
    """What a function of the driver gives besides its code: nothing, a value or a tuple.

    Raises `DeviceFault`.
    """
    code, *values = function(*arguments)
    if int(code) != 0:
        name = function.__name__
        raise DeviceFault(f"{name} failed: {code.name}.", operation=name, code=int(code))
    return values[0] if len(values) == 1 else tuple(values)


def start() -> None:
    """Initialises CUDA in this process. Raises `DeviceFault`."""
    call(driver.cuInit, 0)


def set_access(address: int, size_bytes: int, indices: Sequence[int]) -> None:
    """Lets the GPUs with these numbers read and write a mapped range."""
    wanted = []
    for index in indices:
        access = driver.CUmemAccessDesc()
        access.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        access.location.id = index
        access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        wanted.append(access)
    call(driver.cuMemSetAccess, address, size_bytes, wanted, len(wanted))


def reserve(size_bytes: int, alignment_bytes: int) -> int:
    """The address of a range with nothing behind it."""
    return int(call(driver.cuMemAddressReserve, size_bytes, alignment_bytes, 0, 0))
