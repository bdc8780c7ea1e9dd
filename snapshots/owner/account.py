"""Where every byte is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class DeviceAccount:
    """One device. `resident_bytes` are in workers' mappings, `pooled_bytes` are kept for the
    next ones, `neighbour_bytes` are slabs for restores on other devices, `staging_bytes` are
    what the owner works with: places for pieces that go on to those, or have to be decoded.
    `free_bytes` the driver has; the rest is others'."""

    device_class: str
    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    resident_bytes: int
    pooled_bytes: int
    neighbour_bytes: int = 0
    staging_bytes: int = 0

    @property
    def others_bytes(self) -> int:
        """What is taken, and cannot be had for the asking: all but the owner's own. Staging is
        part of the reserve, as far as that goes."""
        ours = self.resident_bytes + self.pooled_bytes + self.neighbour_bytes
        staging_bytes = min(self.staging_bytes, self.reserve_bytes)
        return self.total_bytes - self.free_bytes - ours - staging_bytes


@dataclass(frozen=True, slots=True)
class LinkAccount:
    """What has come over a device's link since the owner began: for the device itself, for its
    peers, and, instead, out of memory that held it already. `peers`: for how many it can carry;
    none any more once that has failed."""

    peers: int
    own_bytes: int
    relayed_bytes: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class SlabAccount:
    """One slab of the arena: how many copies read it, how many mappings came from it and are
    there, how often it was mapped, and when last (CLOCK_MONOTONIC; 0: never)."""

    tenant: str
    digest: str
    size_bytes: int
    readers: int
    mappings: int
    uses: int
    last_used_us: int


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
class CodingAccount:
    """What came of coding a slab: whether it is `coded`, the bytes of its data, and those that
    it takes in the arena.

    `coded_bytes` are what it has when coded, `plain_us` and `coded_us` what the fastest copies
    of either form took, as far as it came to that; `reason` says why it is not coded.
    """

    data_bytes: int
    arena_bytes: int
    coded: bool
    coded_bytes: int
    plain_us: int
    coded_us: int
    reason: str
