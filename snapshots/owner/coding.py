"""Which slabs of the arena are coded, and when: one at a time, in a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.arena import Arena, ArenaSlab, Form
from dsfn.snapshots.owner.compress import MOST_OF_PLAIN, Compression, Job
from dsfn.snapshots.owner.pieces import LEAST_CODED_BYTES, cut
from dsfn.snapshots.owner.pool import GranulePool
from dsfn.snapshots.owner.verdict import Verdict

_LEAST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Running:
    slab: ArenaSlab
    room: Form
    job: Job


class Coding:
    """Slabs that wait for it and the one that it works on. For the owner's loop alone.

    A slab waits as long as the arena, or the device, has no room for what coding it takes; it
    is copied in its plain form until its coded one has been found right and faster.
    """

    def __init__(
        self,
        arena: Arena,
        pool: GranulePool,
        compression: Compression,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._arena = arena
        self._pool = pool
        self._compression = compression
        self._post = post
        self._thread = ThreadPoolExecutor(1, "dsfn-compression")
        self._waiting: list[ArenaSlab] = []
        self._running: _Running | None = None
        self._then: list[Callable[[], None]] = []

    def add(self, slab: ArenaSlab) -> None:
        """Has a slab coded that is in the arena, if it is not too small for it, or judged."""
        if slab.verdict is not None:
            return
        if slab.data_bytes < _LEAST_BYTES:
            slab.verdict = Verdict(None, 0, 0, 0, "it is too small")
            return
        self._waiting.append(slab)

    def leave(self, slab: ArenaSlab, then: Callable[[], None]) -> bool:
        """Has a slab not coded any more. True if it is to be tried once more after `then` is
        called: it is being coded."""
        if self._running is not None and self._running.slab is slab:
            return self.give_way(then)  # then it waits again
        if slab in self._waiting:
            self._waiting.remove(slab)
        return False

    def give_way(self, then: Callable[[], None]) -> bool:
        """Calls `then` as soon as the arena has back what the present slab is coded into, which
        will be tried again; False if there is none."""
        if self._running is None:
            return False
        self._running.job.cancelled.set()
        self._then.append(then)
        return True

    def go_on(self) -> None:
        """Begins what there is room for; to be called when there may be more."""
        for slab in list(self._waiting):
            if self._running is not None:
                return
            if (running := self._begin(slab)) is not None:
                self._waiting.remove(slab)
                self._running = running
                self._thread.submit(self._judge, running)

    def _begin(self, slab: ArenaSlab) -> _Running | None:
        room_bytes = int(slab.data_bytes * MOST_OF_PLAIN)
        room = self._arena.room(room_bytes)
        if room is None:
            return None
        try:
            scratch = self._pool.hold(self._compression.scratch_bytes)
        except DsfnError:
            self._arena.drop(room)
            return None
        sizes, most_bytes = tuple(self._pool.sizes(slab.data_bytes)), self._compression.piece_bytes
        job = Job(
            source=slab.form.source,
            pieces=tuple(cut(slab.data_bytes, sizes, most_bytes)),
            larger=tuple(cut(slab.data_bytes, sizes, most_bytes, LEAST_CODED_BYTES)),
            room=room.source,
            room_bytes=room_bytes,
            scratch=scratch,
        )
        return _Running(slab, room, job)

    def _judge(self, running: _Running) -> None:
        """Runs in the thread."""
        verdict = self._compression.judge(running.job)
        self._post(partial(self._judged, running, verdict))

    def _judged(self, running: _Running, verdict: Verdict) -> None:
        self._running = None
        self._pool.let_go(running.job.scratch)
        slab, room = running.slab, running.room
        if running.job.cancelled.is_set():
            self._arena.drop(room)
            self._waiting.append(slab)
        elif verdict.pieces is None:
            self._arena.drop(room)
            slab.verdict = verdict
        else:
            room.pieces, slab.verdict = verdict.pieces, verdict
            self._arena.replace(slab, room, verdict.coded_bytes)
        then, self._then = self._then, []
        for action in then:
            action()
