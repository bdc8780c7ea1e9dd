"""Slabs coded in the arena and decoded behind the copy, on the stand-in for a GPU."""

from __future__ import annotations

import ctypes
import random
import struct
from array import array
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsfn.functions.errors import DeviceFault
from dsfn.snapshots.owner.codec import CHUNK_BYTES, Chunks, aligned, steps
from dsfn.snapshots.owner.host import HostDevice
from dsfn.snapshots.owner.hostcodec import HostCodec

MIB = 1 << 20
PIECE_BYTES = MIB
RANDOM = random.Random(0)


def bf16(count: int) -> bytes:
    """Weights as they are: their upper bytes say little."""
    values = (RANDOM.gauss(0, 0.02) for _ in range(count))
    return b"".join(struct.pack("<f", value)[2:] for value in values)


def fp16(count: int) -> bytes:
    return struct.pack(f"<{count}e", *(RANDOM.gauss(0, 0.02) for _ in range(count)))


ODD_HALVES = [0x7FC0, 0x7F80, 0xFF80, 0x8000, 0x0001, 0x8001, 0x7C01, 0x7BFF, 0x0000]  # NaN, inf...
BYTES = st.one_of(
    st.binary(min_size=1, max_size=3 * CHUNK_BYTES),
    st.integers(1, 2 * CHUNK_BYTES + 1).map(bytes),
    st.integers(1, 5 * CHUNK_BYTES).map(lambda size: b"\x3c\xbd" * (size // 2) + b"?" * (size % 2)),
    st.lists(st.sampled_from(ODD_HALVES), min_size=1, max_size=70_000).map(
        lambda h: array("H", h).tobytes()
    ),
    st.integers(1, 40_000).map(bf16),
    st.integers(1, 40_000).map(fp16),
)


class Bench:
    """A codec, with host memory to code from and to, and memory of the device."""

    def __init__(self) -> None:
        self.device = HostDevice(64 * MIB, 0)
        self.codec = HostCodec(self.device, PIECE_BYTES, 2)
        self.scratch = self.device.create(self.codec.encoder_bytes())
        self.target = self.device.create(4 * MIB).address
        self.coded = ctypes.create_string_buffer(2 * PIECE_BYTES)

    def encode(self, plain: bytes, room_bytes: int = 2 * PIECE_BYTES) -> Chunks | None:
        source = ctypes.create_string_buffer(plain, len(plain) + 1)
        with self.codec.encoder(self.scratch) as encoder:
            return encoder.encode(
                ctypes.addressof(source), len(plain), ctypes.addressof(self.coded), room_bytes
            )

    def decode(self, chunks: Chunks, size_bytes: int) -> bytes:
        slot = self.codec.take(wait=False)
        assert slot is not None
        source = ctypes.addressof(self.coded)
        arrived = self.device.upload(slot.address, source, chunks.coded_bytes)
        self.codec.decode(slot, arrived, chunks, self.target, size_bytes)
        self.codec.finish(slot)
        return ctypes.string_at(self.target, size_bytes)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    yield Bench()


@settings(max_examples=60, deadline=None)
@given(plain=BYTES)
def test_whatever_is_coded_comes_out_as_it_went_in(bench: Bench, plain: bytes) -> None:
    chunks = bench.encode(plain)
    assert chunks is not None
    assert bench.decode(chunks, len(plain)) == plain


def test_weights_of_two_bytes_get_smaller_and_noise_does_not(bench: Bench) -> None:
    for weights in (bf16(200_000), fp16(200_000)):
        chunks = bench.encode(weights)
        assert chunks is not None
        assert chunks.coded_bytes < 0.9 * len(weights)
    assert bench.encode(RANDOM.randbytes(400_000), 400_000) is None


def test_chunks_begin_where_a_device_can_read_them(bench: Bench) -> None:
    chunks = Chunks(array("Q", [1, 16, 17, 5]))
    assert list(chunks.places(32)) == [32, 48, 64, 96]
    high = (1 << 47) - (1 << 21)
    assert list(chunks.places(high)) == [high, high + 16, high + 32, high + 64]
    assert list(steps(high, 5, 3)) == [high, high + 5, high + 10]
    assert chunks.coded_bytes == 16 + 16 + 32 + 16
    assert aligned(0) == 0


def test_damage_to_what_is_coded_is_noticed(bench: Bench) -> None:
    plain = bf16(100_000)
    chunks = bench.encode(plain)
    assert chunks is not None
    at = chunks.sizes[0] - 20
    bench.coded[at] = bytes([bench.coded[at][0] ^ 1])
    with pytest.raises(DeviceFault):
        bench.decode(chunks, len(plain))
    assert bench.encode(plain) == chunks
    assert bench.decode(chunks, len(plain)) == plain  # and the slot is free again
