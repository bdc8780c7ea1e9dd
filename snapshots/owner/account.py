"""Where every byte is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DeviceAccount:
    """One device. `resident_bytes` are in workers' mappings, `pooled_bytes` are kept for the
    next ones, `held_bytes` are what the owner itself works with: places for pieces that go on to
    other devices or have to be decoded. `free_bytes` the driver has; the rest is others'."""

    device_class: str
    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    held_bytes: int
    resident_bytes: int
    pooled_bytes: int


@dataclass(frozen=True, slots=True)
class LinkAccount:
    """What has come over a device's link since the owner began: for the device itself, for its
    peers, and, instead, out of memory that held it already."""

    own_bytes: int
    relayed_bytes: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class Account:
    """All that the owner holds. `arena_used_bytes` and `arena_free_bytes` add up to the arena;
    a slab needs one free range, of at most `arena_largest_free_bytes`. Of the slabs, some have
    taken a form that is coded."""

    arena_bytes: int
    arena_used_bytes: int
    arena_free_bytes: int
    arena_largest_free_bytes: int
    slabs: int
    coded_slabs: int
    workers: int
    mappings: int
    devices: tuple[DeviceAccount, ...]
    links: tuple[LinkAccount, ...]

    def to_document(self) -> dict[str, Any]:
        """This account as a JSON-able document."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Account:
        """Reads back what `to_document` wrote."""
        devices = tuple(DeviceAccount(**device) for device in document["devices"])
        links = tuple(LinkAccount(**link) for link in document["links"])
        return cls(**{**document, "devices": devices, "links": links})


@dataclass(frozen=True, slots=True)
class SlabAccount:
    """A slab in the arena: bytes that go to a device, and those that they take in the arena.

    If it was tried what coding it brings, `coded_bytes` are what it has when coded, `plain_us`
    and `coded_us` what the fastest copies of either form took, as far as it came to that, and
    `reason` says why it stays plain; before, the reason is that it waits.
    """

    data_bytes: int
    arena_bytes: int
    coded: bool
    coded_bytes: int
    plain_us: int
    coded_us: int
    reason: str
