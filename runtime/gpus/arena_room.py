"""What of the snapshots is in the arena, and what has to leave it for another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from dsfn.functions.errors import Conflict, MemoryFull, NotFound
from dsfn.functions.values import dataclass
from dsfn.runtime.heat import Heat, worth
from dsfn.runtime.waiting import wait_within
from dsfn.snapshots.format import SlabEntry

if TYPE_CHECKING:
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


@dataclass(frozen=True, slots=True)
class _Wish:
    """Slabs that are to be in the arena, by digest; see `ArenaRoom.load`."""

    owner: OwnerControl
    tenant: str
    directory: Path
    slabs: Mapping[str, SlabEntry]
    until_s: float
    beside: Collection[str] | None

    @property
    def size_bytes(self) -> int:
        """What all of them take."""
        return sum(slab.size_bytes for slab in self.slabs.values())


@dataclass(eq=False)
class ArenaRoom:
    """The slabs in the arena by digest. The least worth keeping leaves first, and those of `pinned`
    snapshots only when there is no other; those that are held stay.

    What was begun is ended, whoever has gone meanwhile: only so is what the owner has known here,
    and can leave again."""

    pinned: Callable[[], frozenset[str]] = frozenset
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _held: Counter[str] = field(default_factory=Counter)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _work: set[asyncio.Task[None]] = field(default_factory=set)
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
        beside: Collection[str] | None = None,
    ) -> None:
        """Has the arena hold the GPU slabs of the snapshot in `directory`, evicting others if it
        must, and waiting `patience_s` for those that are on their way to a GPU. Where nobody waits
        for it, pinned ones and those of the snapshots `beside` it stay.

        Raises `CorruptSnapshot`, `MemoryFull` when nothing more can leave, `OwnerLost`.
        """
        now_s = asyncio.get_running_loop().time()
        wanted = {slab.digest: slab for slab in slabs}
        if not all(digest in self._kept for digest in wanted):
            wish = _Wish(owner, tenant, directory, wanted, now_s + patience_s, beside)
            task = asyncio.create_task(self._load(wish))
            self._work.add(task)
            task.add_done_callback(self._worked)
            await asyncio.shield(task)
        for digest in wanted:
            self._used(digest, directory, now_s)

    async def close(self) -> None:
        """Stops what is under way."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited may have gone

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

    async def _load(self, wish: _Wish) -> None:
        async with self._turn:
            for digest, slab in wish.slabs.items():
                await self._load_slab(wish, slab)
                kept = _Kept(wish.tenant, wish.directory.name, slab.size_bytes)
                self._kept.setdefault(digest, kept)

    async def _load_slab(self, wish: _Wish, slab: SlabEntry) -> None:
        while True:
            try:
                await wish.owner.load_slab(wish.tenant, wish.directory, slab)
                return
            except MemoryFull as full:
                if wish.size_bytes > (await wish.owner.account()).arena_bytes:
                    raise  # it would not fit if all others left
                if not await self._evict_one(wish):
                    raise full from None

    async def _evict_one(self, wish: _Wish) -> bool:
        """Has one slab less in the arena; false if none may leave, or none could in time."""
        loop = asyncio.get_running_loop()
        while leaving := self._leaving(wish, loop.time()):
            self._let_go.clear()
            for digest in leaving:
                if not self._held[digest] and await self._evict(wish.owner, digest):
                    return True
            if loop.time() >= wish.until_s:
                break
            await wait_within(self._let_go, _LOOK_AGAIN_S)
        return False

    def _used(self, digest: str, directory: Path, now_s: float) -> None:
        kept = self._kept.get(digest)
        if kept is None:
            return  # another owner has begun, or it has left again already
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

    def _leaving(self, wish: _Wish, now_s: float) -> list[str]:
        """The slabs that may leave for those of a wish, the least worth keeping first."""

        def value(digest: str) -> float:
            kept = self._kept[digest]
            reload_s = _DISK_BEGIN_S + kept.size_bytes / _DISK_BYTES_PER_S
            return worth(kept.heat.read(now_s), kept.size_bytes, reload_s)

        pinned = self.pinned()
        others = [digest for digest in self._kept if digest not in wish.slabs]
        leaving = [d for d in others if self._kept[d].snapshot not in pinned]
        if wish.beside is not None:
            leaving = [d for d in leaving if self._kept[d].snapshot not in wish.beside]
        elif not leaving:
            leaving = others
        return sorted(leaving, key=value)
