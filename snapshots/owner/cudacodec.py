"""The codec of a GPU: nvCOMP's ANS."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from dsfn.functions.errors import DeviceFault
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.codec import (
    CHUNK_BYTES,
    Chunks,
    Encoder,
    Slot,
    Slots,
    aligned,
    steps,
)
from dsfn.snapshots.owner.cuda import CudaDevice
from dsfn.snapshots.owner.device import Granule, whole_granules
from dsfn.snapshots.owner.driver import await_event, call, driver, new_event, new_stream
from dsfn.snapshots.owner.linux import same_memory
from dsfn.snapshots.owner.nvcomp import Ans, Batch

_WORD_BYTES = 8
_ROWS = 6
_UNTOUCHED = (1 << 64) - 1  # no status of nvCOMP: a chunk that nothing was done with is not well


class _Table:
    """The arrays of a batch of up to `most` chunks, in pinned memory, where the GPU finds them
    without a copy that would have to queue up behind those of slabs."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._address = int(call(driver.cuMemHostAlloc, _ROWS * _WORD_BYTES * most, 0))
        memory = (ctypes.c_char * (_ROWS * _WORD_BYTES * most)).from_address(self._address)
        self._words = memoryview(memory).cast("B").cast("Q")
        self._count = 0

    def fill(
        self, coded: memoryview, coded_sizes: array[int], plain: int, size_bytes: int
    ) -> Batch:
        """A batch of the chunks of `size_bytes` at `plain`, rounded up to whole values; where
        they are coded, and in how many bytes, if that is known."""
        size_bytes += size_bytes % 2
        self._count = count = len(coded)
        plain_sizes = array("Q", [CHUNK_BYTES]) * count
        plain_sizes[-1] = size_bytes - CHUNK_BYTES * (count - 1)
        self._put(0, coded)
        self._put(1, coded_sizes)
        self._put(2, steps(plain, CHUNK_BYTES, count))
        self._put(3, plain_sizes)
        self._put(5, array("Q", [_UNTOUCHED]) * count)
        row_bytes = _WORD_BYTES * self._most
        return Batch(count, *(self._address + row * row_bytes for row in range(_ROWS)))

    def coded_sizes(self) -> Chunks:
        """What coding left of each chunk."""
        return Chunks(array("Q", self._row(1)))

    def check_encoded(self) -> None:
        """Raises `DeviceFault` unless all chunks went well."""
        row = self._words[5 * self._most :].cast("B").cast("I")
        faults = [status for status in row[: self._count] if status]
        if faults:
            raise DeviceFault(
                f"nvCOMP failed with {len(faults)} chunks.", operation="ANS", code=faults[0]
            )

    def check_decoded(self) -> None:
        """Raises `DeviceFault` unless all chunks went well and have the sizes that they had."""
        self.check_encoded()
        if self._row(4) != self._row(3):
            raise DeviceFault("Chunks come out in other sizes.", operation="ANS", code=0)

    def free(self) -> None:
        """Gives the memory back."""
        self._words.release()
        call(driver.cuMemFreeHost, self._address)

    def _row(self, row: int) -> memoryview:
        return self._words[row * self._most : row * self._most + self._count]

    def _put(self, row: int, values: array[int] | memoryview) -> None:
        self._words[row * self._most : row * self._most + len(values)] = values


@dataclass(slots=True, eq=False)
class _CudaSlot:
    """A stream for each: a piece that has come over one link does not wait for one that comes
    over another. Behind the coded piece is the `room` that decoding it takes."""

    address: int
    room: int
    table: _Table
    stream: Any
    decoded: Any
    begun: bool = False


class CudaCodec:
    """A `Codec` for pieces of up to `piece_bytes`. Raises `MemoryFull`, and `DeviceFault` where
    nvCOMP is not, or does not work."""

    def __init__(self, device: CudaDevice, piece_bytes: int, slots: int) -> None:
        device.use()
        self._device = device
        self._ans = Ans(CHUNK_BYTES)
        self.name = self._ans.name
        self._chunks = -(-piece_bytes // CHUNK_BYTES)
        self._room_bytes = aligned(self._ans.decode_room_bytes(self._chunks))
        slot_bytes = piece_bytes + self._room_bytes
        self.held_bytes = whole_granules(slots * slot_bytes)
        self._memory = device.create(self.held_bytes)
        start = self._memory.address
        self._all = [
            self._slot(address, address + piece_bytes)
            for address in range(start, start + slots * slot_bytes, slot_bytes)
        ]
        self._slots = Slots(list(self._all))

    def take(self, wait: bool) -> _CudaSlot | None:
        """See `Codec`."""
        return self._slots.take(wait)

    def decode(
        self, slot: Slot, arrived: object, chunks: Chunks, target: int, size_bytes: int
    ) -> None:
        """See `Codec`."""
        assert isinstance(slot, _CudaSlot)
        self._device.use()
        coded = chunks.places(slot.address)
        batch = slot.table.fill(coded, chunks.sizes, target, size_bytes)
        call(driver.cuStreamWaitEvent, slot.stream, arrived, 0)
        self._ans.decode(batch, slot.room, self._room_bytes, int(slot.stream))
        call(driver.cuEventRecord, slot.decoded, slot.stream)
        slot.begun = True

    def finish(self, slot: Slot, urgent: bool = False) -> None:
        """See `Codec`."""
        assert isinstance(slot, _CudaSlot)
        begun, slot.begun = slot.begun, False
        try:
            if begun:
                await_event(slot.decoded, urgent)
                slot.table.check_decoded()
        finally:
            self._slots.give(slot)

    def close(self) -> None:
        """See `Codec`."""
        self._device.use()
        for slot in self._all:
            slot.table.free()
        self._device.destroy(self._memory)

    def encoder_bytes(self) -> int:
        """See `Codec`."""
        return whole_granules(_Places.of(0, self._chunks, self._ans).end)

    def _slot(self, address: int, room: int) -> _CudaSlot:
        return _CudaSlot(address, room, _Table(self._chunks), new_stream(), new_event())

    @contextmanager
    def encoder(self, scratch: Granule) -> Iterator[Encoder]:
        """See `Codec`."""
        at = _Places.of(scratch.address, self._chunks, self._ans)
        with ExitStack() as undo:
            stream = new_stream()
            undo.callback(call, driver.cuStreamDestroy, stream)
            table = _Table(self._chunks)
            undo.callback(table.free)
            back = int(call(driver.cuMemHostAlloc, at.target - at.plain, 0))
            undo.callback(call, driver.cuMemFreeHost, back)
            yield _CudaEncoder(self._ans, at, stream, table, back)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where an encoder has what in its scratch memory; `stride` bytes for each coded chunk."""

    plain: int
    target: int
    coded: int
    stride: int
    room: int
    end: int

    @classmethod
    def of(cls, start: int, chunks: int, ans: Ans) -> _Places:
        piece_bytes, stride = chunks * CHUNK_BYTES, aligned(ans.max_coded_bytes)
        coded = start + 2 * piece_bytes
        room = coded + chunks * stride
        return cls(
            start, start + piece_bytes, coded, stride, room, room + ans.encode_room_bytes(chunks)
        )


class _CudaEncoder:
    """`back` is pinned memory for a piece that is read back."""

    def __init__(self, ans: Ans, at: _Places, stream: Any, table: _Table, back: int) -> None:
        self.target = at.target
        self._ans = ans
        self._at = at
        self._stream = stream
        self._table = table
        self._back = back

    def encode(self, source: int, size_bytes: int, target: int, room_bytes: int) -> Chunks | None:
        """See `Encoder`."""
        at, count = self._at, -(-size_bytes // CHUNK_BYTES)
        coded = steps(at.coded, at.stride, count)
        batch = self._table.fill(coded, array("Q"), at.plain, size_bytes)
        call(driver.cuMemsetD8Async, at.plain + size_bytes, 0, size_bytes % 2, self._stream)
        call(driver.cuMemcpyHtoDAsync, at.plain, source, size_bytes, self._stream)
        self._ans.encode(batch, at.room, at.end - at.room, int(self._stream))
        call(driver.cuStreamSynchronize, self._stream)
        self._table.check_encoded()
        chunks = self._table.coded_sizes()
        if chunks.coded_bytes > room_bytes:
            return None
        for start, end, size in zip(coded, chunks.places(target), chunks.sizes, strict=True):
            call(driver.cuMemcpyDtoHAsync, end, start, size, self._stream)
        call(driver.cuStreamSynchronize, self._stream)
        return chunks

    def same(self, address: int, source: int, size_bytes: int) -> bool:
        """See `Encoder`."""
        call(driver.cuMemcpyDtoHAsync, self._back, address, size_bytes, self._stream)
        call(driver.cuStreamSynchronize, self._stream)
        return same_memory(self._back, source, size_bytes)
