"""What an owner begins with: the arena touched and registered, the devices open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

from dsfn.functions.errors import UsageError
from dsfn.snapshots.owner.arena import Arena, HostMemory
from dsfn.snapshots.owner.copier import Copier
from dsfn.snapshots.owner.device import Device
from dsfn.snapshots.owner.link import Link
from dsfn.snapshots.owner.messages import Start
from dsfn.snapshots.owner.neighbours import NeighbourTier
from dsfn.snapshots.owner.pool import GranulePool
from dsfn.snapshots.owner.staging import introduce, stage


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an owner; a device has the same index everywhere."""

    arena: Arena
    devices: tuple[Device, ...]
    pools: tuple[GranulePool, ...]
    links: tuple[Link, ...]
    copier: Copier
    peers: tuple[tuple[int, ...], ...]
    touch_us: int
    register_us: int

    def neighbours(self, post: Callable[[Callable[[], None]], None]) -> NeighbourTier:
        """Slabs on devices that their peers reach; `post` has the owner's loop run something."""
        return NeighbourTier(self.arena, self.pools, self.copier, self.peers, post)

    def to_document(self) -> dict[str, object]:
        """The answer to `Start`."""
        return {
            "pages": self.arena.memory.pages,
            "touch_us": self.touch_us,
            "register_us": self.register_us,
            "device_classes": [device.device_class for device in self.devices],
        }


def start(message: Start) -> Parts:
    """Raises `MemoryFull`, `DeviceFault` and `UsageError`."""
    if not (message.arena_bytes and message.piece_bytes):
        raise UsageError("Arena and pieces need more than 0 bytes.")
    devices = tuple(open_device(name) for name in message.devices)
    began_ns = perf_counter_ns()
    memory = HostMemory(message.arena_bytes)
    touched_ns = perf_counter_ns()
    if devices:
        # Portable: what one device has registered is pinned for all of them.
        devices[0].use()
        devices[0].register(memory.address, memory.size_bytes)
    registered_ns = perf_counter_ns()
    introduce(devices)
    copier, stagings = (
        Copier(len(devices), message.piece_bytes),
        stage(devices, message.piece_bytes),
    )
    return Parts(
        arena=Arena(memory),
        devices=devices,
        pools=tuple(
            GranulePool(device, message.granule_sizes, message.reserve_bytes, staging)
            for device, staging in zip(devices, stagings, strict=True)
        ),
        links=tuple(
            Link(number, device, copier, staging)
            for number, (device, staging) in enumerate(zip(devices, stagings, strict=True))
        ),
        copier=copier,
        peers=tuple(() if staging is None else staging.peers for staging in stagings),
        touch_us=(touched_ns - began_ns) // 1000,
        register_us=(registered_ns - touched_ns) // 1000,
    )


def open_device(name: str) -> Device:
    """The device of a `Start`. Raises `UsageError`, `DeviceFault`."""
    kind, *numbers = name.split(":")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise UsageError(f"There is no device {name!r}.")
    match kind, [int(number) for number in numbers]:
        case "cuda", [index]:
            from dsfn.snapshots.owner.cuda import CudaDevice

            return CudaDevice(index)
        case "host", [total_bytes, bytes_per_s]:
            from dsfn.snapshots.owner.host import HostDevice

            return HostDevice(total_bytes, bytes_per_s)
        case _:
            raise UsageError(f"There is no device {name!r}.")
