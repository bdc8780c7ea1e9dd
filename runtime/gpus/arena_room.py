"""What of the snapshots is in the arena, and what has to leave it for another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsfn.functions.errors import Conflict, MemoryFull, NotFound
from dsfn.runtime.heat import Heat, worth
from dsfn.snapshots.format import SlabEntry
from dsfn.snapshots.owner.control import OwnerControl

# What a reload from the disk costs: a rate that most disks reach, and what it takes to begin.
_DISK_BYTES_PER_S = 1_000_000_000
_DISK_BEGIN_S = 0.005


@dataclass(eq=False, slots=True)
class _Kept:
    """A slab in the arena, and the digest of the snapshot that it was brought for."""

    tenant: str
    snapshot: str
    size_bytes: int
    heat: Heat = field(default_factory=Heat)


@dataclass(eq=False)
class ArenaRoom:
    """The slabs in the arena by digest. The least worth keeping leaves first; those of `pinned`
    snapshots stay."""

    pinned: Callable[[], frozenset[str]] = frozenset
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def holds(self, digest: str) -> bool:
        """Whether a slab is in the arena."""
        return digest in self._kept

    def start_over(self) -> None:
        """The arena is new and empty."""
        self._kept.clear()

    async def load(
        self, owner: OwnerControl, tenant: str, directory: Path, slabs: Sequence[SlabEntry]
    ) -> None:
        """Has the arena hold the GPU slabs of the snapshot in `directory`, evicting others if it
        must.

        Raises `CorruptSnapshot`, `MemoryFull` when nothing more can leave, `OwnerLost`.
        """
        now_s = asyncio.get_running_loop().time()
        wanted = {slab.digest: slab.size_bytes for slab in slabs}
        if all(digest in self._kept for digest in wanted):
            for digest in wanted:
                self._used(digest, directory, now_s)
            return
        async with self._turn:
            leaving = self._least_worth(frozenset(wanted), now_s)
            while True:
                try:
                    await owner.load(tenant, directory)
                    break
                except MemoryFull:
                    victim = next(leaving, None)
                    if victim is None:
                        raise
                    await self._evict(owner, victim)
            for digest, size_bytes in wanted.items():
                self._kept.setdefault(digest, _Kept(tenant, directory.name, size_bytes))
                self._used(digest, directory, now_s)

    def _used(self, digest: str, directory: Path, now_s: float) -> None:
        kept = self._kept[digest]
        kept.snapshot = directory.name  # at first that of a deployment's trial
        kept.heat.use(now_s)

    async def _evict(self, owner: OwnerControl, digest: str) -> None:
        kept = self._kept.pop(digest)
        try:
            await owner.evict(kept.tenant, digest)
        except Conflict:
            self._kept[digest] = kept  # it is on its way to a GPU at this moment
        except NotFound:
            return

    def _least_worth(self, keep: frozenset[str], now_s: float) -> Iterator[str]:
        def value(digest: str) -> float:
            kept = self._kept[digest]
            reload_s = _DISK_BEGIN_S + kept.size_bytes / _DISK_BYTES_PER_S
            return worth(kept.heat.read(now_s), kept.size_bytes, reload_s)

        pinned = self.pinned()
        leaving = {d for d, kept in self._kept.items() if kept.snapshot not in pinned}
        yield from sorted(leaving - keep, key=value)
