"""Memory of a device that pieces pass through on their way to its peers."""

from __future__ import annotations

from collections.abc import Sequence

from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.device import GRANULARITY_BYTES, Device, Granule

PLACES = 3  # one that fills, one that empties, and one so that neither waits


@dataclass(frozen=True, slots=True)
class Staging:
    """`PLACES` places of equal size, and the numbers of the peers that can be reached."""

    granule: Granule
    peers: tuple[int, ...]

    @property
    def places(self) -> range:
        """Their addresses."""
        granule = self.granule
        end = granule.address + granule.size_bytes
        return range(granule.address, end, granule.size_bytes // PLACES)


def stage(devices: Sequence[Device], piece_bytes: int) -> tuple[Staging | None, ...]:
    """Of each device: places for pieces of `piece_bytes`; None where it has no peers.

    Raises `MemoryFull`, `DeviceFault`.
    """
    place_bytes = piece_bytes + -piece_bytes % GRANULARITY_BYTES
    return tuple(
        Staging(device.create(PLACES * place_bytes), peers)
        if (peers := _peers(device, devices))
        else None
        for device in devices
    )


def introduce(devices: Sequence[Device]) -> None:
    """Has each device's memory open to those that reach it, from now on."""
    for device in devices:
        device.share_with([other for other in devices if _reaches(other, device)])


def _peers(device: Device, devices: Sequence[Device]) -> tuple[int, ...]:
    return tuple(number for number, other in enumerate(devices) if _reaches(device, other))


def _reaches(device: Device, other: Device) -> bool:
    return device is not other and device.reaches(other)
