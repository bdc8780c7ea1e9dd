"""What of the snapshots is in the arena, and what has to leave it for another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dsfn.functions.errors import Conflict, MemoryFull, NotFound
from dsfn.runtime.heat import Heat, worth
from dsfn.runtime.waiting import wait_within
from dsfn.snapshots.format import SlabEntry
from dsfn.snapshots.owner.control import OwnerControl

# What a reload from the disk costs: a rate that most disks reach, and what it takes to begin.
_DISK_BYTES_PER_S = 1_000_000_000
_DISK_BEGIN_S = 0.005
# That a copy has ended is not announced: it is looked for.
_LOOK_AGAIN_S = 0.05


@dataclass(eq=False, slots=True)
class _Kept:
    """A slab in the arena, and the digest of the snapshot that it was brought for."""

    tenant: str
    snapshot: str
    size_bytes: int
    heat: Heat = field(default_factory=Heat)


@dataclass(eq=False)
class ArenaRoom:
    """The slabs in the arena by digest. The least worth keeping leaves first, and those of `pinned`
    snapshots only when there is no other; those that are held stay."""

    pinned: Callable[[], frozenset[str]] = frozenset
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _held: Counter[str] = field(default_factory=Counter)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def holds(self, digest: str) -> bool:
        """Whether a slab is in the arena."""
        return digest in self._kept

    def start_over(self, tenant: str, slabs: Mapping[str, int]) -> None:
        """Another owner has the arena, with these slabs in it: bytes by digest."""
        self._kept = {
            digest: self._kept.get(digest) or _Kept(tenant, "", size_bytes)
            for digest, size_bytes in slabs.items()
        }

    async def load(
        self,
        owner: OwnerControl,
        tenant: str,
        directory: Path,
        slabs: Sequence[SlabEntry],
        patience_s: float,
    ) -> None:
        """Has the arena hold the GPU slabs of the snapshot in `directory`, evicting others if it
        must, and waiting `patience_s` for those that are on their way to a GPU.

        Raises `CorruptSnapshot`, `MemoryFull` when nothing more can leave, `OwnerLost`.
        """
        now_s = asyncio.get_running_loop().time()
        wanted = {slab.digest: slab.size_bytes for slab in slabs}
        if not all(digest in self._kept for digest in wanted):
            async with self._turn:
                await self._load(owner, tenant, directory, wanted, now_s + patience_s)
        for digest in wanted:
            self._used(digest, directory, now_s)

    @asynccontextmanager
    async def hold(
        self,
        owner: OwnerControl,
        tenant: str,
        directory: Path,
        slabs: Sequence[SlabEntry],
        patience_s: float,
    ) -> AsyncIterator[None]:
        """The arena has these slabs inside the block, for somebody who is about to map them.

        Raises as `load`.
        """
        await self.load(owner, tenant, directory, slabs, patience_s)
        # Only what is there is held: who waits to load holds nothing that another one waits for.
        digests = Counter({slab.digest for slab in slabs})
        self._held += digests
        try:
            yield
        finally:
            self._held -= digests
            self._let_go.set()

    async def _load(
        self,
        owner: OwnerControl,
        tenant: str,
        directory: Path,
        wanted: Mapping[str, int],
        until_s: float,
    ) -> None:
        while True:
            try:
                await owner.load(tenant, directory)
                break
            except MemoryFull as full:
                if sum(wanted.values()) > (await owner.account()).arena_bytes:
                    raise  # it would not fit if all others left
                if not await self._evict_one(owner, wanted, until_s):
                    raise full from None
        for digest, size_bytes in wanted.items():
            self._kept.setdefault(digest, _Kept(tenant, directory.name, size_bytes))

    async def _evict_one(
        self, owner: OwnerControl, wanted: Collection[str], until_s: float
    ) -> bool:
        """Has one slab less in the arena; false if none may leave, or none could in time."""
        loop = asyncio.get_running_loop()
        while leaving := self._leaving(wanted, loop.time()):
            self._let_go.clear()
            for digest in leaving:
                if not self._held[digest] and await self._evict(owner, digest):
                    return True
            if loop.time() >= until_s:
                break
            await wait_within(self._let_go, _LOOK_AGAIN_S)
        return False

    def _used(self, digest: str, directory: Path, now_s: float) -> None:
        kept = self._kept[digest]
        kept.snapshot = directory.name  # at first that of a deployment's trial
        kept.heat.use(now_s)

    async def _evict(self, owner: OwnerControl, digest: str) -> bool:
        """False if the slab is on its way to a GPU at this moment."""
        kept = self._kept.pop(digest)
        try:
            await owner.evict(kept.tenant, digest)
        except Conflict:
            self._kept[digest] = kept
            return False
        except NotFound:
            pass
        return True

    def _leaving(self, wanted: Collection[str], now_s: float) -> list[str]:
        """The slabs that may leave for those that are wanted, the least worth keeping first."""

        def value(digest: str) -> float:
            kept = self._kept[digest]
            reload_s = _DISK_BEGIN_S + kept.size_bytes / _DISK_BYTES_PER_S
            return worth(kept.heat.read(now_s), kept.size_bytes, reload_s)

        pinned = self.pinned()
        others = [digest for digest in self._kept if digest not in wanted]
        leaving = [d for d in others if self._kept[d].snapshot not in pinned] or others
        return sorted(leaving, key=value)
