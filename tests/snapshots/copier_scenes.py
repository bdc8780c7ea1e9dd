"""What the tests of copies share: stand-ins for GPUs with their links, and a slab to copy."""

from __future__ import annotations

import ctypes
import random
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from dsfn.functions.errors import DeviceFault, DsfnError
from dsfn.snapshots.owner.copier import Copier, Copy, Route
from dsfn.snapshots.owner.device import Device, Granule
from dsfn.snapshots.owner.host import HostDevice
from dsfn.snapshots.owner.link import Link
from dsfn.snapshots.owner.pieces import cut
from dsfn.snapshots.owner.pool import GranulePool
from dsfn.snapshots.owner.progress import ProgressPage, ProgressReader
from dsfn.snapshots.owner.staging import introduce, stage

MIB = 1 << 20
TENANT = "one"
PIECE_BYTES = MIB // 4
_GRANULE_BYTES = 4 * MIB
_RANDOM = random.Random(0)


class Alone(HostDevice):
    """A device that reaches no other."""

    def reaches(self, other: Device) -> bool:
        return False


class Broken(HostDevice):
    """A device that refuses when it has carried so many pieces each way."""

    def __init__(
        self, total_bytes: int, bytes_per_s: int, uploads: int = 1000, transfers: int = 1000
    ) -> None:
        super().__init__(total_bytes, bytes_per_s)
        self._left = {"upload": uploads, "transfer": transfers}

    def upload(self, target: int, source: int, size_bytes: int) -> Future[None]:
        self._wear("upload")
        return super().upload(target, source, size_bytes)

    def transfer(self, target: int, source: int, size_bytes: int) -> Future[None]:
        self._wear("transfer")
        return super().transfer(target, source, size_bytes)

    def _wear(self, way: str) -> None:
        if not self._left[way]:
            raise DeviceFault("It broke.", operation=way, code=1)
        self._left[way] -= 1


class Machine:
    """Devices, their links, and a slab to copy to the first of them."""

    def __init__(self, devices: Sequence[HostDevice], size_bytes: int = 12 * MIB + 4321) -> None:
        introduce(devices)
        self.devices = devices
        self.copier = Copier(len(devices), PIECE_BYTES)
        self.stagings = stage(devices, PIECE_BYTES)
        self.links = [
            Link(number, device, self.copier, staging)
            for number, (device, staging) in enumerate(zip(devices, self.stagings, strict=True))
        ]
        self.pools = [GranulePool(device, [_GRANULE_BYTES], 0) for device in devices]
        self.data = _RANDOM.randbytes(size_bytes)
        self._buffer = ctypes.create_string_buffer(self.data, size_bytes)
        self.source = ctypes.addressof(self._buffer)

    def copy(
        self, device: int = 0, kept: Sequence[Granule] | None = None, background: bool = False
    ) -> Running:
        """Begins to copy the slab to a device."""
        return Running(self, device, kept, background)

    def carried_bytes(self, route: Route) -> list[int]:
        """How much each link has carried this way."""
        return [link.carried_bytes[route] for link in self.links]


class Running:
    """A copy and what is seen of it."""

    def __init__(
        self,
        machine: Machine,
        device: int,
        kept: Sequence[Granule] | None,
        background: bool,
    ) -> None:
        self.granules = machine.pools[device].take(TENANT, len(machine.data))
        sizes = [granule.size_bytes for granule in self.granules]
        self.ended = threading.Event()
        self.copy_us = 0
        self.fault: DsfnError | None = None
        self.page = ProgressPage()
        self.reader = ProgressReader(self.page.descriptor)
        self.copy = Copy(
            device=device,
            source=machine.source,
            granules=self.granules,
            pieces=cut(len(machine.data), sizes, machine.copier.piece_bytes),
            page=self.page,
            done=self._done,
            kept=kept,
        )
        machine.copier.submit(self.copy, background)

    def wait(self) -> None:
        assert self.ended.wait(20)

    def arrived(self) -> bytes:
        """The bytes that the page says have arrived."""
        return self.content(self.reader.arrived_bytes)

    def content(self, size_bytes: int) -> bytes:
        parts = (ctypes.string_at(each.address, each.size_bytes) for each in self.granules)
        return b"".join(parts)[:size_bytes]

    def _done(self, copy_us: int, fault: DsfnError | None) -> None:
        self.copy_us, self.fault = copy_us, fault
        self.ended.set()
