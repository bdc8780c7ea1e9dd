"""Copies of slabs, and which link carries which of their pieces."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from heapq import heappop, heappush
from threading import Condition
from time import perf_counter_ns

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.device import Granule
from dsfn.snapshots.owner.pieces import Piece
from dsfn.snapshots.owner.progress import ProgressPage, State

Done = Callable[[int, DsfnError | None], None]

# As many bytes as these largest pieces have are on their way at once in the background: what comes
# meanwhile has to wait for them.
_BACKGROUND_PIECES = 2


class Route(Enum):
    """How a piece gets to its device."""

    OWN = "over the device's own link"
    RELAY = "over a peer's link into memory there, and on from that"
    KEPT = "out of a device's memory that holds it already"


class Copy:
    """A slab's data, in the form that begins at the host address `source`, on its way to
    `granules` of the device number `device`.

    With `kept` it comes out of other granules that hold the same, as long as that works. `page`
    shows how far it is, if somebody looks. `done` gets the microseconds that it took, or why it
    failed; nothing of it is on its way any more then. It is called in any thread, with the
    copier's lock held.
    """

    def __init__(
        self,
        device: int,
        source: int,
        granules: Sequence[Granule],
        pieces: Iterable[Piece],
        page: ProgressPage | None,
        done: Done,
        kept: Sequence[Granule] | None = None,
    ) -> None:
        self.device = device
        self.source = source
        self.granules = granules
        self.kept = kept
        self._page = page
        self._done = done
        self._waiting = [(piece.offset, piece) for piece in pieces]  # a heap: they are in order
        self._flying = 0
        self._ahead: dict[int, int] = {}  # what arrived before what comes before it
        self._arrived_bytes = 0
        self._began_ns = 0
        self._stopped = False
        self._fault: DsfnError | None = None

    @property
    def left(self) -> int:
        """How many pieces nobody has taken."""
        return len(self._waiting)

    @property
    def next_bytes(self) -> int:
        """The size of the piece that `take` gives."""
        return self._waiting[0][1].size_bytes

    @property
    def ended(self) -> bool:
        """Whether nothing of it waits and nothing is on its way."""
        return not self._waiting and not self._flying

    def take(self) -> Piece:
        """The first piece that nobody has taken."""
        self._began_ns = self._began_ns or perf_counter_ns()
        self._flying += 1
        return heappop(self._waiting)[1]

    def arrived(self, piece: Piece) -> None:
        """A piece is there."""
        self._flying -= 1
        self._ahead[piece.offset] = piece.size_bytes
        while size_bytes := self._ahead.pop(self._arrived_bytes, 0):
            self._arrived_bytes += size_bytes
        if self._page is not None:
            self._page.advance(self._arrived_bytes)

    def give_back(self, piece: Piece) -> None:
        """A piece did not get there; it can be taken once more."""
        self._flying -= 1
        if not self._stopped:
            heappush(self._waiting, (piece.offset, piece))

    def stop(self, fault: DsfnError | None = None) -> None:
        """Nobody takes any more of it."""
        self._stopped = True
        self._fault = self._fault or fault
        self._waiting.clear()

    def end(self) -> None:
        """Tells whoever waits for it: the page last, since who reads it may act at once."""
        ended_ns = perf_counter_ns()
        copy_us = (ended_ns - (self._began_ns or ended_ns)) // 1000
        self._done(copy_us, self._fault)
        if self._page is not None:
            self._page.end(State.FAILED if self._stopped else State.DONE, copy_us)


@dataclass(frozen=True, slots=True)
class Task:
    """A piece that a link has taken, and the address where it comes from: of the host, or, by
    `Route.KEPT`, of a device."""

    copy: Copy
    piece: Piece
    route: Route
    source: int

    @property
    def coded(self) -> bool:
        """Whether what is carried has to be decoded then."""
        return self.piece.chunks is not None and self.route is not Route.KEPT

    @property
    def carried_bytes(self) -> int:
        """What has to be carried."""
        return self.piece.carried_bytes if self.coded else self.piece.size_bytes


class Copier:
    """The copies of all devices. Any thread may call it.

    A link takes the next piece as soon as it has room: of its own device's copies, first come
    first served; when there are none, of that of a peer which has most before it; when there
    are none either, of a copy in the background. So links share a copy as their rates are, and
    what has arrived grows from its start.
    """

    def __init__(self, devices: int, piece_bytes: int) -> None:
        """`piece_bytes` is what the largest piece may have."""
        self.piece_bytes = piece_bytes
        self._changed = Condition()
        self._copies: list[list[Copy]] = [[] for _ in range(devices)]
        self._background: list[list[Copy]] = [[] for _ in range(devices)]

    def submit(self, copy: Copy, background: bool = False) -> None:
        """Queues a copy."""
        with self._changed:
            queues = self._background if background else self._copies
            queues[copy.device].append(copy)
            self._changed.notify_all()

    @property
    def idle(self) -> bool:
        """Whether nobody waits for a copy: none runs, but for those in the background."""
        with self._changed:
            return not any(self._copies)

    def cancel(self, copy: Copy) -> None:
        """Has a copy end soon, if it has not; `done` is called all the same."""
        with self._changed:
            copy.stop()
            self._end_if_over(copy)

    def let_end(self) -> None:
        """Returns when every copy that has called `done` has told its page as well."""
        with self._changed:
            return

    def take(self, device: int, peers: Collection[int], under_way: int) -> Task | None:
        """The next piece for the link of `device`, which can carry for `peers` too and has
        `under_way` pieces on their way. None if there is none; with none on its way either, this
        waits for one.
        """
        with self._changed:
            while (task := self._next(device, peers, under_way)) is None and not under_way:
                self._changed.wait()
            return task

    def arrived(self, task: Task) -> None:
        """The piece is there."""
        with self._changed:
            task.copy.arrived(task.piece)
            self._end_if_over(task.copy)

    def failed(self, task: Task, fault: DsfnError) -> None:
        """The piece is not there, and nothing of it on its way. By the device's own link it has
        to come, so the copy fails if that does; what other routes fail to bring, it does."""
        with self._changed:
            task.copy.give_back(task.piece)
            match task.route:
                case Route.OWN:
                    task.copy.stop(fault)
                case Route.KEPT:
                    task.copy.kept = None
            self._end_if_over(task.copy)
            self._changed.notify_all()

    def _next(self, device: int, peers: Collection[int], under_way: int) -> Task | None:
        own = self._copies[device]
        for copy in own:
            if copy.left:
                return _task(copy, Route.OWN if copy.kept is None else Route.KEPT)
        if own:
            return None  # its last pieces are on their way: the link is not idle
        shared = [copy for peer in peers for copy in self._copies[peer] if copy.kept is None]
        most = max(shared, key=lambda copy: copy.left, default=None)
        if most is not None and most.left:
            return _task(most, Route.RELAY)
        most_bytes = _BACKGROUND_PIECES * self.piece_bytes
        for copy in self._background[device]:
            if copy.left and (under_way + 1) * copy.next_bytes <= most_bytes:
                return _task(copy, Route.OWN)
        return None

    def _end_if_over(self, copy: Copy) -> None:
        for queue in (self._copies[copy.device], self._background[copy.device]):
            if copy.ended and copy in queue:
                queue.remove(copy)
                copy.end()
                self._changed.notify_all()  # the link may be idle now


def _task(copy: Copy, route: Route) -> Task:
    piece = copy.take()
    if route is Route.KEPT and copy.kept is not None:
        return Task(copy, piece, route, piece.address(copy.kept))
    return Task(copy, piece, route, copy.source + piece.source)
