"""What an owner begins with: the arena touched and registered, the devices open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from time import perf_counter_ns

from dsfn.functions.errors import DeviceFault, DsfnError, UsageError
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.arena import Arena, HostMemory
from dsfn.snapshots.owner.codec import CHUNK_BYTES, Codec
from dsfn.snapshots.owner.compress import Compression
from dsfn.snapshots.owner.copier import Copier
from dsfn.snapshots.owner.device import Device
from dsfn.snapshots.owner.host import HostDevice
from dsfn.snapshots.owner.hostcodec import HostCodec
from dsfn.snapshots.owner.hostfiles import HostFilesDevice
from dsfn.snapshots.owner.link import Link
from dsfn.snapshots.owner.messages import Start
from dsfn.snapshots.owner.neighbours import NeighbourTier
from dsfn.snapshots.owner.pool import GranulePool
from dsfn.snapshots.owner.staging import PLACES, Staging, introduce, stage


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an owner; a device has the same index everywhere."""

    arena: Arena
    devices: tuple[Device, ...]
    pools: tuple[GranulePool, ...]
    links: tuple[Link, ...]
    copier: Copier
    compression: Compression | None
    codec: str
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
            "codec": self.codec,
        }


def start(message: Start, arena: int) -> Parts:
    """Raises `MemoryFull`, `DeviceFault` and `UsageError`. `arena`: the file of its memory."""
    if message.piece_bytes <= 0:
        raise UsageError("Pieces need more than 0 bytes.")
    devices = tuple(open_device(name) for name in message.devices)
    began_ns = perf_counter_ns()
    memory = HostMemory(arena)
    touched_ns = perf_counter_ns()
    if devices:
        # Portable: what one device has registered is pinned for all of them.
        devices[0].use()
        devices[0].register(memory.address, memory.size_bytes)
    registered_ns = perf_counter_ns()
    introduce(devices)
    copier = Copier(len(devices), message.piece_bytes)
    stagings = stage(devices, message.piece_bytes)
    codecs, codec = open_codecs(message, devices, links=2 if any(stagings) else 1)
    return Parts(
        arena=Arena(memory),
        devices=devices,
        pools=tuple(
            GranulePool(device, message.granule_sizes, message.reserve_bytes, staging_bytes)
            for device, staging_bytes in zip(devices, _staging(stagings, codecs), strict=True)
        ),
        links=tuple(
            Link(number, device, copier, staging, codecs)
            for number, (device, staging) in enumerate(zip(devices, stagings, strict=True))
        ),
        copier=copier,
        compression=Compression(0, devices[0], codecs[0], copier) if codecs else None,
        codec=codec,
        peers=tuple(() if staging is None else staging.peers for staging in stagings),
        touch_us=(touched_ns - began_ns) // 1000,
        register_us=(registered_ns - touched_ns) // 1000,
    )


def open_device(name: str) -> Device:
    """The device of a `Start`. Raises `UsageError`, `DeviceFault`."""
    kind, *parts = name.split(":")
    match kind, [int(part) if part.isascii() and part.isdigit() else part for part in parts]:
        case "cuda", [int(index)]:
            return _open_gpu(index)
        case "host", [int(total_bytes), int(bytes_per_s)]:
            return HostDevice(total_bytes, bytes_per_s)
        case "host", [str(directory), int(bytes_per_s)] if directory.startswith("/"):
            return HostFilesDevice(Path(directory), bytes_per_s)
        case _:
            raise UsageError(f"There is no device {name!r}.")


def _open_gpu(index: int) -> Device:
    try:
        from dsfn.snapshots.owner.cuda import CudaDevice
    except ImportError as error:
        raise DeviceFault(
            "cuda-bindings is not installed: run `pip install 'dsfn[cuda]'`.", operation="import"
        ) from error
    return CudaDevice(index)


def open_codecs(
    message: Start, devices: Sequence[Device], links: int
) -> tuple[tuple[Codec, ...], str]:
    """A codec for each device and its name; none, and the reason, unless all have the same:
    what is coded has to come back on each. `links` are how many may bring pieces to a device.

    Raises `UsageError`.
    """
    if not message.compress or not devices:
        return (), "none, because nobody asked for it"
    if message.piece_bytes % CHUNK_BYTES:
        raise UsageError(f"Pieces that are coded need a multiple of {CHUNK_BYTES} bytes.")
    codecs: list[Codec] = []
    try:
        for device in devices:
            codecs.append(_open_codec(device, message.piece_bytes, links * PLACES))
        names = {codec.name for codec in codecs}
        if len(names) == 1:
            return tuple(codecs), names.pop()
        reason = f"the devices have {len(names)} kinds"
    except DsfnError as error:
        reason = error.message
    for codec in codecs:
        codec.close()
    return (), f"none, because {reason}"


def _open_codec(device: Device, piece_bytes: int, slots: int) -> Codec:
    if isinstance(device, HostDevice):
        return HostCodec(device, piece_bytes, slots)
    from dsfn.snapshots.owner.cuda import CudaDevice
    from dsfn.snapshots.owner.cudacodec import CudaCodec

    assert isinstance(device, CudaDevice)
    return CudaCodec(device, piece_bytes, slots)


def _staging(stagings: Sequence[Staging | None], codecs: Sequence[Codec]) -> Iterator[int]:
    """What the owner holds of each device."""
    for staging, codec in zip_longest(stagings, codecs):
        size_bytes = 0 if staging is None else staging.granule.size_bytes
        yield size_bytes + (0 if codec is None else codec.held_bytes)
