"""Codes a slab of the arena, proves that it comes out right, and measures whether that pays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import field, replace
from queue import Empty, SimpleQueue
from threading import Event
from time import monotonic
from typing import NoReturn

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.codec import Codec, Encoder, aligned
from dsfn.snapshots.owner.copier import Copier, Copy
from dsfn.snapshots.owner.device import Device, Granule
from dsfn.snapshots.owner.pieces import Piece
from dsfn.snapshots.owner.progress import ProgressPage
from dsfn.snapshots.owner.verdict import Verdict

MOST_OF_PLAIN = 7 / 8  # of its plain bytes that a coded piece may have
MOST_OF_TIME = 0.95  # of a plain copy's time that a coded one may take
_RUNS = 3
_PATIENCE_S = 60.0
_POLL_S = 0.002


@dataclass(frozen=True, slots=True)
class Job:
    """A slab whose data lies plain at `source`, and is copied in `pieces`; the `larger` ones are
    those to code, to `room_bytes` of the arena at `room`; memory of the device for the encoder.
    """

    source: int
    pieces: tuple[Piece, ...]
    larger: tuple[Piece, ...]
    room: int
    room_bytes: int
    scratch: Granule
    cancelled: Event = field(default_factory=Event)


class Compression:
    """Judges slabs on the device that has this `number`; for one thread. `patience_s` bounds each
    wait for a link that carries nothing which somebody waits for."""

    def __init__(
        self,
        number: int,
        device: Device,
        codec: Codec,
        copier: Copier,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._number = number
        self._device = device
        self._codec = codec
        self._copier = copier
        self._patience_s = patience_s

    @property
    def scratch_bytes(self) -> int:
        """What a job's scratch memory has to have."""
        return self._codec.encoder_bytes()

    @property
    def piece_bytes(self) -> int:
        """What a job's largest piece may have."""
        return self._copier.piece_bytes

    def judge(self, job: Job) -> Verdict:
        """Does all of it. Copies that come meanwhile go first."""
        self._device.use()
        try:
            with self._codec.encoder(job.scratch) as encoder:
                return self._judge(job, encoder)
        except _Ended as ended:
            return Verdict(None, 0, 0, 0, ended.reason)
        except DsfnError as error:
            return Verdict(None, 0, 0, 0, error.message)

    def _judge(self, job: Job, encoder: Encoder) -> Verdict:
        pieces = self._code(job, encoder)
        if all(piece.chunks is None for piece in pieces):
            _end("no piece of it gets smaller")
        for plain, coded in zip(job.larger, pieces, strict=True):
            self._check(job, plain, coded, encoder)
        plain_us, coded_us = self._measure(job, pieces, encoder.target)
        last = pieces[-1]
        total_bytes = last.source + last.carried_bytes
        if coded_us > MOST_OF_TIME * plain_us:
            return Verdict(None, total_bytes, plain_us, coded_us, "it does not come back faster")
        return Verdict(pieces, total_bytes, plain_us, coded_us, "")

    def _code(self, job: Job, encoder: Encoder) -> tuple[Piece, ...]:
        """The coded form's pieces, in the job's room."""
        pieces: list[Piece] = []
        used_bytes = 0
        for piece in job.larger:
            self._wait_idle(job)
            left_bytes = job.room_bytes - used_bytes
            most_bytes = min(left_bytes, int(piece.size_bytes * MOST_OF_PLAIN))
            source, target = job.source + piece.source, job.room + used_bytes
            chunks = encoder.encode(source, piece.size_bytes, target, most_bytes)
            coded = replace(piece, source=used_bytes, chunks=chunks)
            if coded.carried_bytes > left_bytes:
                _end("it does not get smaller")
            if chunks is None:
                ctypes.memmove(target, source, piece.size_bytes)
            used_bytes += aligned(coded.carried_bytes)
            pieces.append(coded)
        return tuple(pieces)

    def _check(self, job: Job, plain: Piece, coded: Piece, encoder: Encoder) -> None:
        """Whether a piece comes out of the arena as it went in, every byte of it."""
        self._wait_idle(job)
        target, source = encoder.target, job.room + coded.source
        if coded.chunks is None:
            self._device.wait(self._device.upload(target, source, coded.size_bytes))
        else:
            self._decode(source, coded, target)
        if not encoder.same(target, job.source + plain.source, plain.size_bytes):
            _end("it does not come out as it went in")

    def _decode(self, source: int, coded: Piece, target: int) -> None:
        slot = self._codec.take(wait=True)
        assert slot is not None
        assert coded.chunks is not None
        try:
            arrived = self._device.upload(slot.address, source, coded.carried_bytes)
            self._codec.decode(slot, arrived, coded.chunks, target, coded.size_bytes)
        finally:
            self._codec.finish(slot)
        self._device.wait(arrived)

    def _measure(self, job: Job, pieces: Sequence[Piece], target: int) -> tuple[int, int]:
        """How long the plain and the coded form take. All pieces go to the same place: where
        they end up makes no difference to a copy, and there is always room for it."""
        self._wait_idle(job)
        times_us: tuple[list[int], list[int]] = ([], [])
        for _ in range(_RUNS):
            times_us[0].append(self._time(job, job.source, job.pieces, target))
            times_us[1].append(self._time(job, job.room, pieces, target))
        return min(times_us[0]), min(times_us[1])

    def _time(self, job: Job, source: int, pieces: Sequence[Piece], target: int) -> int:
        """Microseconds that a copy takes."""
        page, ended = ProgressPage(), SimpleQueue[tuple[int, DsfnError | None]]()
        copy = Copy(
            device=self._number,
            source=source,
            granules=[Granule(self._copier.piece_bytes, -1, target)],
            pieces=[replace(piece, granule=0, start=0) for piece in pieces],
            page=page,
            done=lambda copy_us, fault: ended.put((copy_us, fault)),
        )
        self._copier.submit(copy, background=True)
        try:
            copy_us, fault = self._ended(job, copy, ended)
        finally:
            page.close()
        if fault is not None:
            raise fault
        return copy_us

    def _ended(
        self, job: Job, copy: Copy, ended: SimpleQueue[tuple[int, DsfnError | None]]
    ) -> tuple[int, DsfnError | None]:
        end_s = monotonic() + self._patience_s
        while monotonic() < end_s and not job.cancelled.is_set():
            try:
                return ended.get(timeout=_POLL_S)
            except Empty:
                continue
        self._copier.cancel(copy)
        ended.get(timeout=_PATIENCE_S)  # nothing of it is on its way any more
        _end_early(job)

    def _wait_idle(self, job: Job) -> None:
        """Waits until no copy runs that somebody waits for."""
        end_s = monotonic() + self._patience_s
        while not self._copier.idle:
            if monotonic() > end_s or job.cancelled.wait(_POLL_S):
                break
        else:
            if not job.cancelled.is_set():
                return
        _end_early(job)


class _Ended(Exception):
    """A job has ended before its end; private to this module."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _end(reason: str) -> NoReturn:
    raise _Ended(reason)


def _end_early(job: Job) -> NoReturn:
    _end("it was evicted" if job.cancelled.is_set() else "the link is never idle")
