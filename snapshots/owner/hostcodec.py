"""The codec of the stand-in for a GPU: zlib on the upper bytes, in a thread."""

from __future__ import annotations

import ctypes
import zlib
from array import array
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from dsfn.functions.errors import DeviceFault
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.codec import CHUNK_BYTES, Chunks, Encoder, Slot, Slots, aligned
from dsfn.snapshots.owner.device import Granule, whole_granules
from dsfn.snapshots.owner.host import HostDevice
from dsfn.snapshots.owner.linux import same_memory


@dataclass(slots=True, eq=False)
class _HostSlot:
    address: int
    decoding: Future[None] | None = None


class HostCodec:
    """A `Codec` for pieces of up to `piece_bytes`. Raises `MemoryFull`."""

    name = f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    def __init__(self, device: HostDevice, piece_bytes: int, slots: int) -> None:
        self._device = device
        self._piece_bytes = piece_bytes
        size_bytes = slots * piece_bytes
        self._ring = device.create(whole_granules(size_bytes))
        self.held_bytes = self._ring.size_bytes
        addresses = range(self._ring.address, self._ring.address + size_bytes, piece_bytes)
        self._slots = Slots([_HostSlot(address) for address in addresses])
        self._decoder = ThreadPoolExecutor(1, "dsfn-decoder")

    def take(self, wait: bool) -> _HostSlot | None:
        """See `Codec`."""
        return self._slots.take(wait)

    def decode(
        self, slot: Slot, arrived: object, chunks: Chunks, target: int, size_bytes: int
    ) -> None:
        """See `Codec`."""
        assert isinstance(slot, _HostSlot)
        assert isinstance(arrived, Future)
        slot.decoding = self._decoder.submit(
            _decode, slot.address, arrived, chunks, target, size_bytes
        )

    def finish(self, slot: Slot, urgent: bool = False) -> None:
        """See `Codec`."""
        assert isinstance(slot, _HostSlot)
        decoding, slot.decoding = slot.decoding, None
        try:
            if decoding is not None:
                decoding.result()
        finally:
            self._slots.give(slot)

    def close(self) -> None:
        """See `Codec`."""
        self._decoder.shutdown()
        self._device.destroy(self._ring)

    def encoder_bytes(self) -> int:
        """See `Codec`."""
        return whole_granules(self._piece_bytes)

    @contextmanager
    def encoder(self, scratch: Granule) -> Iterator[Encoder]:
        """See `Codec`."""
        yield _HostEncoder(scratch.address)


class _HostEncoder:
    def __init__(self, target: int) -> None:
        self.target = target

    def encode(self, source: int, size_bytes: int, target: int, room_bytes: int) -> Chunks | None:
        """See `Encoder`."""
        sizes, used_bytes = array("Q"), 0
        for start in range(0, size_bytes, CHUNK_BYTES):
            plain = ctypes.string_at(source + start, min(CHUNK_BYTES, size_bytes - start))
            coded = plain[::2] + zlib.compress(plain[1::2], 1)
            if used_bytes + len(coded) > room_bytes:
                return None
            ctypes.memmove(target + used_bytes, coded, len(coded))
            used_bytes += aligned(len(coded))
            sizes.append(len(coded))
        return Chunks(sizes)

    def same(self, address: int, source: int, size_bytes: int) -> bool:
        """See `Encoder`."""
        return same_memory(address, source, size_bytes)


def _decode(
    start: int, arrived: Future[None], chunks: Chunks, target: int, size_bytes: int
) -> None:
    arrived.result()
    for number, (place, coded_bytes) in enumerate(
        zip(chunks.places(start), chunks.sizes, strict=True)
    ):
        at = number * CHUNK_BYTES
        plain = bytearray(min(CHUNK_BYTES, size_bytes - at))
        middle = (len(plain) + 1) // 2
        try:
            plain[::2] = ctypes.string_at(place, middle)
            plain[1::2] = zlib.decompress(ctypes.string_at(place + middle, coded_bytes - middle))
        except (zlib.error, ValueError) as error:
            raise DeviceFault("A piece does not decode.", operation="decode", code=0) from error
        ctypes.memmove(target + at, bytes(plain), len(plain))
