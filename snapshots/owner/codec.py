"""The seam to a codec: slabs in fewer bytes in the arena, decoded by the device behind the copy.

What a codec takes are weights of 2 bytes: their upper byte, with the exponent, has about a third
of the information that it has room for. It works on chunks, each on its own, so that a device has
many to decode at once; a coded piece is its coded chunks one after the other, each at the next
multiple of `ALIGNMENT_BYTES`.

`dsfn.snapshots.owner.cudacodec` is a GPU's; `dsfn.snapshots.owner.hostcodec` that of the stand-in.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import field
from functools import cache
from itertools import accumulate
from threading import Condition
from typing import Generic, Protocol, TypeVar

from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.device import Granule

# Half as much costs 2 % more bytes; twice as much leaves a GPU idle while it decodes small pieces.
CHUNK_BYTES = 128 << 10
ALIGNMENT_BYTES = 16

_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Chunks:
    """A coded piece's chunks: how many bytes each has, how many the piece has with what lies
    between them, and where each begins in it. A device is told of hundreds of pieces in a tenth of
    a second: what it is told lies ready, as words of 64 bits."""

    sizes: array[int]  # "Q"
    coded_bytes: int = field(init=False)
    _starts: int = field(init=False)  # all of them, as one number

    def __post_init__(self) -> None:
        ends = list(accumulate(map(aligned, self.sizes)))
        object.__setattr__(self, "coded_bytes", ends[-1])
        object.__setattr__(self, "_starts", _number([0, *ends[:-1]]))

    def places(self, start: int) -> memoryview:
        """Where each chunk begins in a piece at the address `start`, as words."""
        return _words(self._starts + start * _ones(len(self.sizes)), len(self.sizes))


def steps(start: int, step: int, count: int) -> memoryview:
    """So many addresses from `start` on, as words."""
    return _words(_multiples(step, count) + start * _ones(count), count)


def _number(words: Iterable[int]) -> int:
    """Words as one number: adding to each is one addition then, as long as none overflows."""
    return int.from_bytes(array("Q", words).tobytes(), "little")


def _words(number: int, count: int) -> memoryview:
    return memoryview(number.to_bytes(_WORD_BYTES * count, "little")).cast("Q")


@cache
def _ones(count: int) -> int:
    return _number([1] * count)


@cache
def _multiples(step: int, count: int) -> int:
    return _number(range(0, step * count, step))


class Slot(Protocol):
    """Memory of the device for a coded piece, and what else decoding it takes."""

    address: int


AnySlot = TypeVar("AnySlot", bound=Slot)


class Encoder(Protocol):
    """Codes pieces, and checks what comes out; for one thread.

    `target` is the address of memory of the device for a decoded piece.
    """

    target: int

    def encode(self, source: int, size_bytes: int, target: int, room_bytes: int) -> Chunks | None:
        """Codes bytes of the arena into others of it, and says how many each chunk has there.

        None if the room does not do; what is in it then means nothing. Raises `DeviceFault`.
        """

    def same(self, address: int, source: int, size_bytes: int) -> bool:
        """Whether memory of the device and of the arena hold the same. Raises `DeviceFault`."""


class Codec(Protocol):
    """One device's codec. Any thread may call it."""

    @property
    def name(self) -> str:
        """What it is, with its version: what another codec has coded it cannot decode."""

    @property
    def held_bytes(self) -> int:
        """Memory of the device that it holds."""

    def take(self, wait: bool) -> Slot | None:
        """A slot that is then the caller's; with `wait` there will be one."""

    def decode(
        self, slot: Slot, arrived: object, chunks: Chunks, target: int, size_bytes: int
    ) -> None:
        """Begins to decode what is in the slot, once a copy of the device, or of a peer, has
        `arrived`, into memory of the device, of which it may write one byte more.

        Raises `DeviceFault`.
        """

    def finish(self, slot: Slot, urgent: bool = False) -> None:
        """Waits for the decoding, if it was begun, and takes the slot back. An `urgent` wait
        notices at once. Raises `DeviceFault` unless the piece came out well."""

    def close(self) -> None:
        """Gives its memory back; nothing is decoded any more."""

    def encoder_bytes(self) -> int:
        """Memory of the device that an encoder needs, for pieces of up to `piece_bytes`."""

    def encoder(self, scratch: Granule) -> AbstractContextManager[Encoder]:
        """An encoder in that memory. Raises `DeviceFault`."""


class Slots(Generic[AnySlot]):
    """Who has which slot. Any thread may call it."""

    def __init__(self, slots: list[AnySlot]) -> None:
        self._free = slots
        self._given = Condition()

    def take(self, wait: bool) -> AnySlot | None:
        """One that nobody has."""
        with self._given:
            while wait and not self._free:
                self._given.wait()
            return self._free.pop() if self._free else None

    def give(self, slot: AnySlot) -> None:
        """Takes one back."""
        with self._given:
            self._free.append(slot)
            self._given.notify()


def aligned(size_bytes: int) -> int:
    """Where the next chunk can begin after so many bytes."""
    return size_bytes + -size_bytes % ALIGNMENT_BYTES
