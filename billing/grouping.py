"""Group commit: what several threads post at once shares one transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import field
from threading import Lock

from dsfn.billing.posting import Posting
from dsfn.functions.errors import Conflict
from dsfn.functions.values import dataclass

# More would make everybody wait for a long time.
MAX_ROWS = 2000


@dataclass(eq=False, slots=True)
class _Waiting:
    """What one thread posts, and what came of it. `called` is locked until it is done, or its
    thread is to commit for those who wait: an event does the same, and costs ten times as much."""

    rows: Sequence[Posting]
    done: bool = False
    error: BaseException | None = None
    called: Lock = field(default_factory=Lock)

    def call(self) -> None:
        """Wakes its thread, if that waits."""
        if self.called.locked():
            self.called.release()


class Group:
    """One of those who wait commits for them, the first for as many as fit.

    Each is called by name when its rows are committed: were they all to take the same lock to hear
    of it, one that had just committed could take it again and again before the others woke up.
    """

    def __init__(self, turn: Lock, commit: Callable[[Sequence[Posting]], None]) -> None:
        """`commit` writes all of some rows or none; it is called by whoever holds `turn`."""
        self._turn = turn
        self._commit = commit
        self._queue = Lock()  # for the two below, and never for long
        self._waiting: deque[_Waiting] = deque()
        self._is_led = False

    def post(self, rows: Sequence[Posting]) -> None:
        """Returns when the rows are committed. Raises what `commit` does for these alone."""
        waiting = _Waiting(rows)
        with self._queue:
            self._waiting.append(waiting)
            leads, self._is_led = not self._is_led, True
            if not leads:
                waiting.called.acquire()
        if not leads:
            waiting.called.acquire()
        if not waiting.done:
            self._lead()
        if waiting.error is not None:
            raise waiting.error

    def _lead(self) -> None:
        """Commits for the first who wait, and hands over to the next."""
        group: list[_Waiting] = []
        try:
            with self._turn:
                group = self._next_group()
                self._commit_group(group)
        finally:
            with self._queue:
                successor = next(iter(self._waiting), None)
                self._is_led = successor is not None
            for waiting in group:
                waiting.call()
            if successor is not None:
                successor.call()

    def _next_group(self) -> list[_Waiting]:
        """Those who have waited for the longest, the one who leads first."""
        group: list[_Waiting] = []
        size = 0
        with self._queue:
            while self._waiting and (not group or size + len(self._waiting[0].rows) <= MAX_ROWS):
                group.append(self._waiting.popleft())
                size += len(group[-1].rows)
        return group

    def _commit_group(self, group: list[_Waiting]) -> None:
        if len(group) == 1:
            self._commit_one(group[0])
            return
        together = _Waiting([row for waiting in group for row in waiting.rows])
        self._commit_one(together)
        for waiting in group:
            if isinstance(together.error, Conflict):
                # One row is refused: the others must not suffer for it.
                self._commit_one(waiting)
            else:
                waiting.done, waiting.error = True, together.error

    def _commit_one(self, waiting: _Waiting) -> None:
        try:
            self._commit(waiting.rows)
        except BaseException as error:  # noqa: BLE001
            # Whoever posted these rows raises it.
            waiting.error = error
        waiting.done = True
