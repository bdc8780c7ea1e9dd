"""The CUDA driver, with its error codes turned into errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

# cuda-bindings has no types.
from cuda.bindings import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
    driver as driver,
)

from dsfn.functions.errors import DeviceFault

_SPIN_S = 0.005  # more than the pieces take that a link has ahead
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
    try:
        call(driver.cuInit, 0)
    except RuntimeError as error:  # there is no library to ask
        raise DeviceFault(f"There is no driver: {error}.", operation="cuInit") from error


def new_stream() -> Any:
    """A stream of the thread's device, which waits for no other."""
    return call(driver.cuStreamCreate, int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))


def new_event() -> Any:
    """An event of the thread's device."""
    flags = driver.CUevent_flags
    # Blocking: the thread sleeps instead of burning a core that workers need.
    wanted = flags.CU_EVENT_BLOCKING_SYNC | flags.CU_EVENT_DISABLE_TIMING
    return call(driver.cuEventCreate, int(wanted))


def await_event(event: Any, urgent: bool) -> None:
    """Waits until what was recorded has happened; an `urgent` wait burns the core for a while."""
    end_s = perf_counter() + (_SPIN_S if urgent else 0)
    not_ready = int(driver.CUresult.CUDA_ERROR_NOT_READY)
    while perf_counter() < end_s and int(driver.cuEventQuery(event)[0]) == not_ready:
        pass
    call(driver.cuEventSynchronize, event)


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
