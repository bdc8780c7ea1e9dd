"""Group commit: what several threads post at once shares one transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from dsfn.billing.posting import Posting
from dsfn.functions.errors import Conflict

# More would make everybody wait for a long time.
MAX_ROWS = 2000


@dataclass(eq=False, slots=True)
class _Waiting:
    """What one thread posts, and what came of it."""

    rows: Sequence[Posting]
    done: bool = False
    error: BaseException | None = None


class Group:
    """Whoever has the turn commits for all who wait for it."""

    def __init__(self, turn: Lock, commit: Callable[[Sequence[Posting]], None]) -> None:
        """`commit` writes all of some rows or none; it is called by whoever holds `turn`."""
        self._turn = turn
        self._commit = commit
        self._waiting: deque[_Waiting] = deque()

    def post(self, rows: Sequence[Posting]) -> None:
        """Returns when the rows are committed. Raises what `commit` does for these alone."""
        waiting = _Waiting(rows)
        self._waiting.append(waiting)
        with self._turn:
            if not waiting.done:
                self._commit_group(self._next_group(waiting))
        if waiting.error is not None:
            raise waiting.error

    def _next_group(self, last: _Waiting) -> list[_Waiting]:
        """Those who have waited for the longest, up to `last` at least."""
        group, size = [], 0
        while last not in group or (self._waiting and size < MAX_ROWS):
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
