"""A GPU as the owner's device, through CUDA's virtual memory management."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from dsfn.functions.errors import DeviceFault
from dsfn.snapshots.owner.device import GRANULARITY_BYTES, Granule
from dsfn.snapshots.owner.driver import (
    OUT_OF_MEMORY,
    POSIX_FD,
    call,
    driver,
    reserve,
    set_access,
    start,
)
from dsfn.snapshots.owner.errors import memory_full


class CudaDevice:
    """The `Device` number `index`. Raises `DeviceFault` if there is none."""

    def __init__(self, index: int) -> None:
        start()
        self._index = index
        device = call(driver.cuDeviceGet, index)
        name: bytes = call(driver.cuDeviceGetName, 256, device)
        self.device_class = name.split(b"\0")[0].decode()
        self._context = call(driver.cuDevicePrimaryCtxRetain, device)
        self.use()
        self._stream = call(
            driver.cuStreamCreate, int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        )
        self._properties = self._allocation()
        self._events: list[Any] = []
        minimum = driver.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
        least = call(driver.cuMemGetAllocationGranularity, self._properties, minimum)
        if GRANULARITY_BYTES % least:
            raise DeviceFault(f"{self.device_class} gives memory in pieces of {least} bytes.")

    def use(self) -> None:
        """See `Device`."""
        call(driver.cuCtxSetCurrent, self._context)

    def register(self, address: int, size_bytes: int) -> None:
        """See `Device`."""
        call(driver.cuMemHostRegister, address, size_bytes, driver.CU_MEMHOSTREGISTER_PORTABLE)

    def memory(self) -> tuple[int, int]:
        """See `Device`."""
        free, total = call(driver.cuMemGetInfo)
        return int(free), int(total)

    def create(self, size_bytes: int) -> Granule:
        """See `Device`."""
        try:
            handle = call(driver.cuMemCreate, size_bytes, self._properties, 0)
        except DeviceFault as fault:
            if fault.fields["code"] != OUT_OF_MEMORY:
                raise
            raise memory_full("device", size_bytes, self.memory()[0]) from fault
        with ExitStack() as undo:
            # The mapping holds the memory as well, once there is one.
            undo.callback(call, driver.cuMemRelease, handle)
            with ExitStack() as undo_mapping:
                address = reserve(size_bytes, GRANULARITY_BYTES)
                undo_mapping.callback(call, driver.cuMemAddressFree, address, size_bytes)
                call(driver.cuMemMap, address, size_bytes, 0, handle, 0)
                undo_mapping.callback(call, driver.cuMemUnmap, address, size_bytes)
                set_access(address, size_bytes, self._index)
                fd = int(call(driver.cuMemExportToShareableHandle, handle, POSIX_FD, 0))
                undo_mapping.pop_all()
        return Granule(size_bytes, fd, address)

    def destroy(self, granule: Granule) -> None:
        """See `Device`."""
        os.close(granule.fd)
        call(driver.cuMemUnmap, granule.address, granule.size_bytes)
        call(driver.cuMemAddressFree, granule.address, granule.size_bytes)

    def copy(self, target: int, source: int, size_bytes: int) -> object:
        """See `Device`."""
        event = self._events.pop() if self._events else self._new_event()
        call(driver.cuMemcpyHtoDAsync, target, source, size_bytes, self._stream)
        call(driver.cuEventRecord, event, self._stream)
        return event

    def wait(self, copy: object) -> None:
        """See `Device`."""
        call(driver.cuEventSynchronize, copy)
        self._events.append(copy)

    def _new_event(self) -> Any:
        flags = driver.CUevent_flags
        # Blocking: the thread sleeps instead of burning a core that workers need.
        wanted = flags.CU_EVENT_BLOCKING_SYNC | flags.CU_EVENT_DISABLE_TIMING
        return call(driver.cuEventCreate, int(wanted))

    def _allocation(self) -> Any:
        wanted = driver.CUmemAllocationProp()
        wanted.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        wanted.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        wanted.location.id = self._index
        wanted.requestedHandleTypes = POSIX_FD
        return wanted
