"""A GPU as the owner's device, through CUDA's virtual memory management."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from dsfn.functions.errors import DeviceFault
from dsfn.snapshots.owner.device import GRANULARITY_BYTES, Device, Granule
from dsfn.snapshots.owner.driver import (
    POSIX_FD,
    await_event,
    call,
    driver,
    new_event,
    new_stream,
    reserve,
    set_access,
    start,
)
from dsfn.snapshots.owner.errors import OUT_OF_MEMORY, memory_full


class CudaDevice:
    """The `Device` number `index`. Raises `DeviceFault` if there is none."""

    def __init__(self, index: int) -> None:
        start()
        if index >= (count := call(driver.cuDeviceGetCount)):
            raise DeviceFault(
                f"There is no GPU {index}, of {count} that are seen.", operation="cuDeviceGet"
            )
        self._index = index
        self._device = call(driver.cuDeviceGet, index)
        name: bytes = call(driver.cuDeviceGetName, 256, self._device)
        self.device_class = name.split(b"\0")[0].decode()
        self._context = call(driver.cuDevicePrimaryCtxRetain, self._device)
        self.use()
        self._link = new_stream()
        self._across = new_stream()
        self._back = new_stream()
        self._events: list[Any] = []
        self._staged = new_event()
        self._properties = self._allocation()
        self._users = [index]
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
        self.use()
        free, total = call(driver.cuMemGetInfo)
        return int(free), int(total)

    def reaches(self, other: Device) -> bool:
        """See `Device`."""
        if not isinstance(other, CudaDevice) or other._index == self._index:
            return False
        # Only what NVLink joins does atomics on each other's memory; over the bus, a peer's
        # bytes would take the very link that they are to be spared.
        wanted = driver.CUdevice_P2PAttribute
        return all(
            call(driver.cuDeviceGetP2PAttribute, attribute, self._device, other._device)
            for attribute in (
                wanted.CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED,
                wanted.CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED,
            )
        )

    def share_with(self, peers: Sequence[Device]) -> None:
        """See `Device`."""
        self._users = [
            self._index,
            *(each._index for each in peers if isinstance(each, CudaDevice)),
        ]

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
                set_access(address, size_bytes, self._users)
                fd = int(call(driver.cuMemExportToShareableHandle, handle, POSIX_FD, 0))
                undo_mapping.pop_all()
        return Granule(size_bytes, fd, address)

    def destroy(self, granule: Granule) -> None:
        """See `Device`."""
        os.close(granule.fd)
        call(driver.cuMemUnmap, granule.address, granule.size_bytes)
        call(driver.cuMemAddressFree, granule.address, granule.size_bytes)

    def upload(self, target: int, source: int, size_bytes: int) -> object:
        """See `Device`."""
        call(driver.cuMemcpyHtoDAsync, target, source, size_bytes, self._link)
        return self._record(self._link)

    def relay(self, target: int, place: int, source: int, size_bytes: int) -> object:
        """See `Device`."""
        call(driver.cuMemcpyHtoDAsync, place, source, size_bytes, self._link)
        # A stream that waits for an event waits for what was recorded then: one does for all.
        call(driver.cuEventRecord, self._staged, self._link)
        call(driver.cuStreamWaitEvent, self._across, self._staged, 0)
        return self.transfer(target, place, size_bytes)

    def transfer(self, target: int, source: int, size_bytes: int) -> object:
        """See `Device`."""
        call(driver.cuMemcpyDtoDAsync, target, source, size_bytes, self._across)
        return self._record(self._across)

    def download(self, target: int, source: int, size_bytes: int) -> None:
        """See `Device`."""
        call(driver.cuMemcpyDtoHAsync, target, source, size_bytes, self._back)
        call(driver.cuStreamSynchronize, self._back)

    def wait(self, event: object, urgent: bool = False) -> None:
        """See `Device`."""
        await_event(event, urgent)
        self._events.append(event)

    def _record(self, stream: Any) -> Any:
        try:
            event = self._events.pop()
        except IndexError:  # all are in use
            event = new_event()
        call(driver.cuEventRecord, event, stream)
        return event

    def _allocation(self) -> Any:
        wanted = driver.CUmemAllocationProp()
        wanted.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        wanted.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        wanted.location.id = self._index
        wanted.requestedHandleTypes = POSIX_FD
        return wanted
