"""The host arena: one range of shared memory, and the slabs that lie in it."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from dsfn.functions.errors import Conflict, NotFound
from dsfn.functions.values import dataclass
from dsfn.snapshots.format import PAGE_BYTES, corrupt
from dsfn.snapshots.owner.account import CodingAccount, SlabAccount
from dsfn.snapshots.owner.device import Granule
from dsfn.snapshots.owner.errors import memory_full
from dsfn.snapshots.owner.inventory import INVENTORY_BYTES, Inventory, Record, packed
from dsfn.snapshots.owner.linux import (
    HUGE_PAGE_BYTES,
    advise_huge_pages,
    available_bytes,
    shared_huge_pages,
    touch,
)
from dsfn.snapshots.owner.pieces import Piece, cut
from dsfn.snapshots.owner.ranges import Ranges
from dsfn.snapshots.owner.verdict import Verdict
from dsfn.snapshots.process.machine import map_memory

_HOST_RESERVE_BYTES = 256 << 20
_BLOCK_BYTES = 512  # what `st_blocks` counts
_READ_BYTES = 32 << 20
_HALF_LIFE_S = 600

_NO_VERDICT = Verdict(None, 0, 0, 0, "it was not coded so far")

Key = tuple[str, str]  # tenant, digest: tenants share no slab, not even an equal one


class HostMemory:
    """The memory of a `HostFile`, mapped, with a page behind every address. What others have
    written into it stays. It lasts as long as the process.

    Raises `MemoryFull`.
    """

    def __init__(self, fd: int) -> None:
        file = os.fstat(fd)
        self.size_bytes = file.st_size
        if os.fstatvfs(fd).f_bsize == HUGE_PAGE_BYTES:
            self.pages = "hugetlb 2 MiB"
        else:
            self.pages = "2 MiB on advice" if shared_huge_pages() else "4 KiB"
            lacking_bytes = self.size_bytes - file.st_blocks * _BLOCK_BYTES
            free = available_bytes() - _HOST_RESERVE_BYTES
            if lacking_bytes and free < lacking_bytes:
                raise memory_full("host", lacking_bytes, max(0, free))
        access = mmap.PROT_READ | mmap.PROT_WRITE
        self.address = map_memory(0, self.size_bytes, access, mmap.MAP_SHARED, fd)
        advise_huge_pages(self.address, self.size_bytes)
        try:
            touch(self.address, self.size_bytes)
        except OSError as error:
            raise memory_full("host", self.size_bytes, available_bytes()) from error

    def bytes_at(self, offset: int, size_bytes: int) -> memoryview:
        """A writable view."""
        array = (ctypes.c_char * size_bytes).from_address(self.address + offset)
        return memoryview(array).cast("B")


@dataclass(slots=True, eq=False)
class Form:
    """A slab's data as it lies in the arena's range at `offset`: from the address `source` on,
    plain, or in `pieces` of which some are coded. `readers` counts the copies that run."""

    offset: int
    source: int
    pieces: tuple[Piece, ...] | None = None
    readers: int = 0
    dropped: bool = False


@dataclass(slots=True, eq=False)
class ArenaSlab:
    """A slab file in the arena, in one form; `verdict` says what came of coding it, once it is
    known. `mappings` counts the memory of workers that it was copied to, `uses` how often, the
    last time at `last_used_us` of the monotonic clock. `head` is what comes before the data."""

    key: Key
    size_bytes: int
    data_offset: int
    form: Form
    verdict: Verdict | None = None
    mappings: int = 0
    uses: int = 0
    last_used_us: int = 0
    head: bytes = b""
    record: bytes = b""
    _heat: float = 0.0

    @property
    def data_bytes(self) -> int:
        """What of it goes to a device."""
        return self.size_bytes - self.data_offset

    def pieces(self, granules: Iterable[Granule], most_bytes: int) -> Iterable[Piece]:
        """The pieces that bring it to granules, whose sizes are always the same for its size."""
        sizes = (granule.size_bytes for granule in granules)
        return self.form.pieces or cut(self.data_bytes, sizes, most_bytes)

    @property
    def coded(self) -> bool:
        """Whether it has a coded form."""
        return self.form.pieces is not None

    def use(self) -> None:
        """It is mapped once more."""
        self._heat = self.heat() + 1
        self.uses += 1
        self.last_used_us = _now_us()

    def heat(self) -> float:
        """How often it was used, what was some time ago less: each `_HALF_LIFE_S`, half."""
        passed_s = (_now_us() - self.last_used_us) / 1e6
        return self._heat * math.exp2(-passed_s / _HALF_LIFE_S)

    def account(self) -> SlabAccount:
        """What of it matters to whoever decides what to evict."""
        return SlabAccount(
            *self.key,
            self.size_bytes,
            self.form.readers,
            self.mappings,
            self.uses,
            self.last_used_us,
        )


class Arena:
    """Slabs in one `HostMemory`, whose last bytes tell of them. Nothing is evicted but by
    `evict`."""

    def __init__(self, memory: HostMemory) -> None:
        self.memory = memory
        self.ranges = Ranges(memory.size_bytes - INVENTORY_BYTES)
        self._inventory = Inventory(memory.bytes_at(self.ranges.total_bytes, INVENTORY_BYTES))
        self.slabs: dict[Key, ArenaSlab] = {}

    def find(self, key: Key) -> ArenaSlab:
        """The slab. Raises `NotFound`."""
        slab = self.slabs.get(key)
        if slab is None:
            raise NotFound(f"The arena has no slab {key[1]!r}.", kind="slab", name=key[1])
        return slab

    def reserve(self, key: Key, size_bytes: int, data_offset: int) -> ArenaSlab:
        """A range for a slab that nobody finds yet. Raises `MemoryFull`."""
        form = self.room(size_bytes)
        if form is None:
            raise memory_full("arena", size_bytes, self.ranges.largest_free_bytes)
        form.source += data_offset
        return ArenaSlab(key, size_bytes, data_offset, form)

    def room(self, size_bytes: int) -> Form | None:
        """A range for a form of a slab, if there is one."""
        offset = self.ranges.take(_whole_pages(size_bytes))
        return None if offset is None else Form(offset, self.memory.address + offset)

    def fill(self, slab: ArenaSlab, path: Path) -> None:
        """Reads the slab's file into its range. Another thread may do it.

        Raises `CorruptSnapshot` unless it is what the slab's digest says, and `OSError`.
        """
        view = self.memory.bytes_at(slab.form.offset, slab.size_bytes)
        digest = sha256()
        with path.open("rb", buffering=0) as file, ThreadPoolExecutor(1) as hasher:
            size = os.fstat(file.fileno()).st_size
            if size != slab.size_bytes:
                corrupt(f"the slab has {size} bytes instead of {slab.size_bytes}")
            filled = 0
            while filled < size:
                count = file.readinto(view[filled : filled + _READ_BYTES])
                if not count:
                    corrupt(f"the slab ends after {filled} bytes")
                hasher.submit(digest.update, view[filled : filled + count])
                filled += count
            # What is in the arena needs no second copy in the page cache.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if digest.hexdigest() != slab.key[1]:
            corrupt("the slab's bytes differ from their digest")
        slab.head = bytes(view[: slab.data_offset])

    def commit(self, slab: ArenaSlab) -> None:
        """From now on the slab is found."""
        slab.record = self._record(slab)
        self.slabs[slab.key] = slab
        self._write_down()

    def replace(self, slab: ArenaSlab, form: Form, size_bytes: int) -> None:
        """From now on the slab is found in this form, which has `size_bytes`. Copies of the one
        before go on; its range comes back with the last of them."""
        self.ranges.shrink(form.offset, _whole_pages(size_bytes))
        slab.form, before = form, slab.form
        slab.record = self._record(slab)
        self._write_down()
        self.drop(before)

    def drop(self, form: Form) -> None:
        """Gives a form's range back, as soon as nobody reads it."""
        form.dropped = True
        if not form.readers:
            self.ranges.give(form.offset)

    def read(self, slab: ArenaSlab) -> Form:
        """The slab's form, for a copy, which tells `end_read` of its end."""
        slab.form.readers += 1
        return slab.form

    def end_read(self, form: Form) -> None:
        """A copy has ended."""
        form.readers -= 1
        if form.dropped:
            self.drop(form)

    def evictable(self, key: Key) -> ArenaSlab:
        """The slab, which nobody reads. Raises `NotFound`, `Conflict`."""
        slab = self.find(key)
        if slab.form.readers:
            raise Conflict(f"The slab {key[1]!r} is being copied to a device.")
        return slab

    def evict(self, key: Key) -> None:
        """Forgets a slab. Raises `NotFound`, and `Conflict` while it is copied."""
        slab = self.evictable(key)
        del self.slabs[key]
        self._write_down()
        self.drop(slab.form)

    def take_over(self, tenant: str, most: int, is_sound: bool) -> None:
        """Finds what whoever had this memory before has left there of this tenant's, at most so
        many slabs; nothing if its bytes are not `is_sound`. For an arena that is empty."""
        found = self._inventory.read()
        ours = [each for each in found if is_sound and each[0].key[0] == tenant]
        for record, as_written in ours[:most]:
            self.ranges.claim(record.offset, record.range_bytes)
            source = self.memory.address + record.offset + record.start
            self.slabs[record.key] = ArenaSlab(
                record.key,
                record.size_bytes,
                record.data_offset,
                Form(record.offset, source, record.pieces),
                record.verdict,
                head=record.head,
                record=as_written,
            )
        self._write_down()

    def _record(self, slab: ArenaSlab) -> bytes:
        form = slab.form
        return packed(
            Record(
                slab.key,
                slab.size_bytes,
                slab.data_offset,
                form.offset,
                self.ranges.taken_bytes(form.offset),
                form.source - self.memory.address - form.offset,
                form.pieces,
                slab.verdict,
                slab.head,
            )
        )

    def _write_down(self) -> None:
        self._inventory.write([slab.record for slab in self.slabs.values()])

    def coding(self, slab: ArenaSlab) -> CodingAccount:
        """What came of coding a slab."""
        verdict = slab.verdict or _NO_VERDICT
        return CodingAccount(
            data_bytes=slab.data_bytes,
            arena_bytes=self.ranges.taken_bytes(slab.form.offset),
            coded=slab.coded,
            coded_bytes=verdict.coded_bytes,
            plain_us=verdict.plain_us,
            coded_us=verdict.coded_us,
            reason=verdict.reason,
        )

    def by_last_use(self) -> list[ArenaSlab]:
        """All slabs, the least recently used first."""
        return sorted(self.slabs.values(), key=lambda slab: slab.last_used_us)


def _now_us() -> int:
    return time.monotonic_ns() // 1000


def _whole_pages(size_bytes: int) -> int:
    return size_bytes + -size_bytes % PAGE_BYTES
