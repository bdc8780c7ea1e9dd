"""Slabs that a GPU codes and decodes with nvCOMP. Skipped where there is neither."""

from __future__ import annotations

import asyncio
import ctypes
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from owner_scenes import MIB, TENANT, judged, running_owner, settled

if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU", allow_module_level=True)
pytest.importorskip("cuda.bindings", reason="needs the extra dsfn[cuda]")
pytest.importorskip("nvidia.libnvcomp", reason="needs the extra dsfn[cuda-compress]")

from dsfn.functions.errors import DeviceFault
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cuda import CudaMemory
from dsfn.snapshots.memory import Memory
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.codec import CHUNK_BYTES, Chunks
from dsfn.snapshots.owner.cuda import CudaDevice
from dsfn.snapshots.owner.cudacodec import CudaCodec
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.verify import verify

pytestmark = pytest.mark.gpu

GPU = "cuda:0"
PIECE_BYTES = 4 * MIB
ROOM = {
    "arena_bytes": 512 * MIB,
    "granule_bytes": 64 * MIB,
    "reserve_bytes": 512 * MIB,
    "piece_bytes": 32 * MIB,
}


def weights(values: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return (torch.randn(values, device="cuda") * 0.02).to(dtype)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes()


class Bench:
    """A codec, pinned memory to code from and to, and memory of the GPU."""

    def __init__(self) -> None:
        self.device = CudaDevice(0)
        self.codec = CudaCodec(self.device, PIECE_BYTES, 2)
        self.scratch = self.device.create(self.codec.encoder_bytes())
        self.target = self.device.create(2 * PIECE_BYTES).address
        self._pinned = torch.empty(2 * PIECE_BYTES, dtype=torch.uint8, pin_memory=True)
        self.source = self._pinned.data_ptr()
        self.coded = self.source + PIECE_BYTES

    def encode(self, plain: bytes, room_bytes: int = PIECE_BYTES) -> Chunks | None:
        ctypes.memmove(self.source, plain, len(plain))
        with self.codec.encoder(self.scratch) as encoder:
            return encoder.encode(self.source, len(plain), self.coded, room_bytes)

    def decode(self, chunks: Chunks, size_bytes: int) -> bool:
        """Whether what is coded comes out as what it was coded from."""
        slot = self.codec.take(wait=False)
        assert slot is not None
        arrived = self.device.upload(slot.address, self.coded, chunks.coded_bytes)
        try:
            self.codec.decode(slot, arrived, chunks, self.target, size_bytes)
        finally:
            self.codec.finish(slot)
        self.device.wait(arrived)
        with self.codec.encoder(self.scratch) as encoder:
            return encoder.same(self.target, self.source, size_bytes)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    yield Bench()


EVERY = torch.arange(-(1 << 15), 1 << 15).to(torch.int16)  # NaN, infinities, zeros, denormals
PLAIN: dict[str, Callable[[], bytes]] = {
    "bf16": lambda: bits(weights(PIECE_BYTES // 2)),
    "fp16": lambda: bits(weights(PIECE_BYTES // 2, torch.float16)),
    "fp32": lambda: bits(weights(PIECE_BYTES // 4, torch.float32)),
    "every half": lambda: bits(EVERY) * 20,
    "equal": lambda: b"\x3c\xbd" * (PIECE_BYTES // 2),
    "zeros, odd": lambda: bytes(PIECE_BYTES - 1),
    "one chunk and a byte": lambda: bits(weights(CHUNK_BYTES // 2)) + b"?",
    "one byte": lambda: b"?",
    "a few values": lambda: bits(weights(5)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_whatever_is_coded_comes_out_as_it_went_in(bench: Bench, name: str) -> None:
    plain = PLAIN[name]()
    chunks = bench.encode(plain)
    assert chunks is not None
    assert bench.decode(chunks, len(plain))


def test_weights_take_two_thirds_and_noise_finds_no_room(bench: Bench) -> None:
    chunks = bench.encode(PLAIN["bf16"]())
    assert chunks is not None
    assert chunks.coded_bytes < 0.68 * PIECE_BYTES
    noise = torch.randint(-128, 127, (PIECE_BYTES,), dtype=torch.int8)
    assert bench.encode(bits(noise)) is None


def test_a_piece_that_does_not_decode_is_said_to_and_the_next_one_is_right(bench: Bench) -> None:
    plain = PLAIN["bf16"]()
    chunks = bench.encode(plain)
    assert chunks is not None
    ctypes.memset(bench.coded, 0xA5, 64)  # a chunk's header
    for _ in range(3):  # more often than there are slots
        with pytest.raises(DeviceFault):
            bench.decode(chunks, len(plain))
    again = bench.encode(plain)
    assert again == chunks
    assert bench.decode(Chunks(array("Q", chunks.sizes)), len(plain))


def test_a_slab_on_the_gpu_is_coded_when_that_is_faster(tmp_path: Path) -> None:
    state = {
        "brain": weights(64 * MIB),
        "half": weights(1_000_003, torch.float16),
        "odd": torch.randint(-128, 127, (333_333,), dtype=torch.int8, device="cuda"),
        "every": EVERY.cuda().view(torch.bfloat16),
    }
    capture(state, Classes(), tmp_path)
    (slab,) = read_manifest(tmp_path)[1].slabs

    async def scenario() -> None:
        async with running_owner(GPU, **ROOM, compress=True) as control:
            assert control.facts["codec"].startswith("nvCOMP")
            await control.load(TENANT, tmp_path)
            seen = await judged(control, slab.digest)
            assert seen.coded, seen
            assert seen.arena_bytes < 0.7 * seen.data_bytes
            await settled(control, lambda account: account.coded_slabs == 1)
            client = OwnerClient(await control.connect(TENANT), patience_s=20)
            memories: dict[str, Memory] = {"gpu:0": CudaMemory(client)}
            for _ in range(3):
                verify(tmp_path, Classes(), memories)

    asyncio.run(scenario())
