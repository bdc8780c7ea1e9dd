"""What is found out about a slab before its coded form may take the plain one's place, and what
becomes of copies of coded slabs that do not end well."""

from __future__ import annotations

import ctypes
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from copier_scenes import MIB, PIECE_BYTES, Alone

from dsfn.functions.errors import DeviceFault, DsfnError
from dsfn.snapshots.owner.codec import Chunks, Codec, Encoder, Slot
from dsfn.snapshots.owner.compress import Compression, Job
from dsfn.snapshots.owner.copier import Copier, Copy
from dsfn.snapshots.owner.device import Granule
from dsfn.snapshots.owner.hostcodec import HostCodec
from dsfn.snapshots.owner.link import Link
from dsfn.snapshots.owner.pieces import Piece, cut
from dsfn.snapshots.owner.progress import ProgressPage
from dsfn.snapshots.owner.verdict import Verdict

RATE = 16 * MIB
SLAB_BYTES = 2 * MIB + 4321
WEIGHTS = array("H", [0x3C00 | value % 997 % 251 for value in range(SLAB_BYTES)]).tobytes()
WEIGHTS = WEIGHTS[:SLAB_BYTES]


class Tampering(HostCodec):
    """A codec between whose coding and decoding a bit of the arena flips."""

    @contextmanager
    def encoder(self, scratch: Granule) -> Iterator[Encoder]:
        with super().encoder(scratch) as encoder:
            yield _Tampering(encoder)


class _Tampering:
    def __init__(self, encoder: Encoder) -> None:
        self.target = encoder.target
        self._encoder = encoder
        self.same = encoder.same

    def encode(self, source: int, size_bytes: int, target: int, room_bytes: int) -> Chunks | None:
        chunks = self._encoder.encode(source, size_bytes, target, room_bytes)
        byte = ctypes.c_ubyte.from_address(target + 1000)
        byte.value ^= 0x10  # in a lower byte: it decodes, and is wrong
        return chunks


class Failing(HostCodec):
    """A codec that refuses to begin, or to end, its third piece."""

    when = ""
    decoded = 0

    def decode(
        self, slot: Slot, arrived: object, chunks: Chunks, target: int, size_bytes: int
    ) -> None:
        self.decoded += 1
        if self.decoded == 3 and self.when == "begin":
            raise DeviceFault("It broke.", operation="decode", code=1)
        super().decode(slot, arrived, chunks, target, size_bytes)

    def finish(self, slot: Slot, urgent: bool = False) -> None:
        super().finish(slot, urgent)
        if self.decoded >= 3 and self.when == "end":
            self.when = ""
            raise DeviceFault("It broke.", operation="decode", code=1)


class Scene:
    """A device with a codec, a slab in the arena, and room for its coded form."""

    def __init__(self, kind: type[HostCodec] = HostCodec, rate: int = RATE) -> None:
        self.device = Alone(64 * MIB, rate)
        self.codec: Codec = kind(self.device, PIECE_BYTES, 4)
        self.copier = Copier(1, PIECE_BYTES)
        self.link = Link(0, self.device, self.copier, None, [self.codec])
        self._plain = ctypes.create_string_buffer(WEIGHTS, SLAB_BYTES)
        self._room = ctypes.create_string_buffer(SLAB_BYTES)
        self.granules = [self.device.create(2 * MIB), self.device.create(2 * MIB)]
        pieces = tuple(cut(SLAB_BYTES, [2 * MIB, 2 * MIB], PIECE_BYTES))
        self.job = Job(
            source=ctypes.addressof(self._plain),
            pieces=pieces,
            larger=pieces,
            room=ctypes.addressof(self._room),
            room_bytes=SLAB_BYTES * 7 // 8,
            scratch=self.device.create(self.codec.encoder_bytes()),
        )

    def judge(self) -> Verdict:
        return Compression(0, self.device, self.codec, self.copier).judge(self.job)

    def coded(self) -> tuple[Piece, ...]:
        verdict = self.judge()
        assert verdict.pieces is not None, verdict
        return verdict.pieces

    def copy(self, pieces: tuple[Piece, ...]) -> Running:
        return Running(self, pieces)


class Running:
    """A copy of the coded slab."""

    def __init__(self, scene: Scene, pieces: tuple[Piece, ...]) -> None:
        self._scene = scene
        self._ended = threading.Event()
        self.fault: DsfnError | None = None
        self.copy = Copy(0, scene.job.room, scene.granules, pieces, ProgressPage(), self._done)
        scene.copier.submit(self.copy)

    def arrived(self) -> bytes:
        """What is there at the end."""
        assert self._ended.wait(20)
        parts = (ctypes.string_at(each.address, 2 * MIB) for each in self._scene.granules)
        return b"".join(parts)[:SLAB_BYTES]

    def _done(self, copy_us: int, fault: DsfnError | None) -> None:
        self.fault = fault
        self._ended.set()


def test_a_coded_form_is_right_smaller_and_faster() -> None:
    scene = Scene()
    verdict = scene.judge()
    assert verdict.pieces is not None
    assert verdict.reason == ""
    assert verdict.coded_bytes < SLAB_BYTES * 7 // 8
    assert verdict.coded_us <= 0.95 * verdict.plain_us
    running = scene.copy(verdict.pieces)
    assert running.arrived() == WEIGHTS
    assert running.fault is None


def test_a_bit_that_flips_in_the_arena_is_seen_before_anybody_can_read_it() -> None:
    verdict = Scene(Tampering).judge()
    assert verdict.pieces is None
    assert verdict.reason == "it does not come out as it went in"


def test_a_codec_that_fails_leaves_the_plain_form() -> None:
    for when in ("begin", "end"):
        scene = Scene(Failing)
        scene.codec.when = when  # type: ignore[attr-defined]
        verdict = scene.judge()
        assert (verdict.pieces, verdict.reason) == (None, "It broke.")


def test_a_job_that_is_called_off_ends_soon_wherever_it_is() -> None:
    for delay_s in (0, 0.05, 0.2, 0.4, 0.6):
        scene = Scene()
        timer = threading.Timer(delay_s, scene.job.cancelled.set)
        timer.start()
        began_s = time.monotonic()
        assert scene.judge().pieces is None
        assert time.monotonic() - began_s < delay_s + 0.5
        timer.join()


def test_a_link_that_is_never_idle_is_not_waited_for_without_end() -> None:
    scene = Scene(rate=2 * MIB)
    running = Copy(0, scene.job.source, scene.granules, scene.job.pieces, ProgressPage(), _nothing)
    scene.copier.submit(running)
    compression = Compression(0, scene.device, scene.codec, scene.copier, patience_s=0.3)
    verdict = compression.judge(scene.job)
    assert (verdict.pieces, verdict.reason) == (None, "the link is never idle")
    assert bytes(scene._room) == bytes(SLAB_BYTES)  # nothing was coded
    scene.copier.cancel(running)


@pytest.mark.parametrize("when", ["begin", "end"])
def test_a_copy_fails_whose_piece_does_not_decode_and_the_next_one_is_right(when: str) -> None:
    scene = Scene(Failing)
    pieces = scene.coded()
    for _ in range(3):  # more often than there are slots for, if one were lost each time
        scene.codec.decoded = 0  # type: ignore[attr-defined]
        scene.codec.when = when  # type: ignore[attr-defined]
        running = scene.copy(pieces)
        running.arrived()
        assert isinstance(running.fault, DeviceFault)
        scene.codec.when = ""  # type: ignore[attr-defined]
        assert scene.copy(pieces).arrived() == WEIGHTS


def test_a_copy_that_is_called_off_gives_its_slots_back() -> None:
    scene = Scene(rate=4 * MIB)
    pieces = scene.coded()
    for _ in range(3):
        running = scene.copy(pieces)
        time.sleep(0.1)
        scene.copier.cancel(running.copy)
        running.arrived()
    assert scene.copy(pieces).arrived() == WEIGHTS


def _nothing(copy_us: int, fault: DsfnError | None) -> None:
    """Nobody wants to know."""
