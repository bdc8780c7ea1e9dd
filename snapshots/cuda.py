"""Memory of a GPU: addresses are this process's, what is under them the memory owner's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.device import GRANULARITY_BYTES
from dsfn.snapshots.owner.driver import POSIX_FD, call, driver, reserve, set_access
from dsfn.snapshots.owner.memory import OwnedMemory


class CudaSpace:
    """The `Space` of the GPU number `index`. Makes this process's context there."""

    def __init__(self, index: int) -> None:
        self._index = index
        self.device = torch.device("cuda", index)
        torch.cuda.synchronize(self.device)
        self.device_class: str = torch.cuda.get_device_name(self.device)

    def reserve(self, size_bytes: int) -> int:
        """See `dsfn.snapshots.owner.space.Space`."""
        return reserve(size_bytes, GRANULARITY_BYTES)

    def free(self, address: int, size_bytes: int) -> None:
        """See `dsfn.snapshots.owner.space.Space`."""
        call(driver.cuMemAddressFree, address, size_bytes)

    def map(self, address: int, sizes: Sequence[int], descriptors: Sequence[int]) -> None:
        """See `dsfn.snapshots.owner.space.Space`."""
        mapped = 0
        try:
            for size, descriptor in zip(sizes, descriptors, strict=True):
                handle = call(driver.cuMemImportFromShareableHandle, descriptor, POSIX_FD)
                try:
                    call(driver.cuMemMap, address + mapped, size, 0, handle, 0)
                finally:
                    call(driver.cuMemRelease, handle)  # the mapping holds the memory
                mapped += size
            set_access(address, mapped, [self._index])
        except BaseException:  # it goes on; half a mapping must not stay behind
            if mapped:
                self.unmap(address, mapped)
            raise

    def unmap(self, address: int, size_bytes: int) -> None:
        """See `dsfn.snapshots.owner.space.Space`."""
        call(driver.cuMemUnmap, address, size_bytes)

    def synchronise(self) -> None:
        """See `dsfn.snapshots.owner.space.Space`."""
        torch.cuda.synchronize(self.device)

    def storage(self, address: int, size_bytes: int, keep: object) -> torch.UntypedStorage:
        """See `dsfn.snapshots.owner.space.Space`."""
        view = _View(address, size_bytes, keep)
        return torch.as_tensor(view, device=self.device).untyped_storage()


class _View:
    """Bytes of a GPU's memory, as torch takes them: it holds on to the view itself.

    https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html
    """

    def __init__(self, address: int, size_bytes: int, keep: object) -> None:
        self.keep = keep
        self.__cuda_array_interface__ = {
            "shape": (size_bytes,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
            "stream": None,
        }


class CudaMemory(OwnedMemory):
    """The memory of a GPU: number `index` in this process, `device` for the owner."""

    def __init__(self, client: OwnerClient, index: int = 0, device: int = 0) -> None:
        super().__init__(client, CudaSpace(index), device)
