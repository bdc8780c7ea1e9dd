"""Brings checkpoints to one place, in a thread of its own: nobody ever waits for it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from dsfn.billing.durable import write_whole
from dsfn.billing.evidence import Place
from dsfn.functions.errors import DsfnError

_AT_ONCE = 100
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 60.0
_LOG = logging.getLogger("dsfn.ledger")

Checkpoints = Callable[[int, int], list[tuple[int, str]]]
"""Gives the checkpoints with larger numbers than this, at most so many."""


class Progress:
    """Which checkpoints every place has: up to which number. Kept in a file; without it, places
    are asked for each checkpoint again, which does no harm."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._numbers = _read(path)

    def of(self, place: str) -> int:
        """Up to which number a place has all checkpoints."""
        return self._numbers.get(place, 0)

    def note(self, place: str, number: int) -> None:
        """A place has all checkpoints up to this one. Raises `OSError`."""
        with self._lock:
            self._numbers[place] = number
            write_whole(self._path, json.dumps(self._numbers).encode())


class Depositor:
    """Brings every checkpoint to one place, again and again until it is there."""

    def __init__(self, place: Place, checkpoints: Checkpoints, progress: Progress) -> None:
        self._place = place
        self._checkpoints = checkpoints
        self._progress = progress
        self._wanted = threading.Event()
        self._stop = threading.Event()
        # Where a place hangs, the process does not wait for it at its end.
        self._thread = threading.Thread(
            target=self._run, name=f"checkpoints-{place.name}", daemon=True
        )

    def start(self) -> None:
        """Begins with what is not there yet."""
        self._wanted.set()
        self._thread.start()

    def wake(self) -> None:
        """There is a checkpoint more."""
        self._wanted.set()

    def close(self, timeout_s: float) -> None:
        """Tries once more and ends; the rest is brought at the next start."""
        self._stop.set()
        self._wanted.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            self._wanted.wait()
            self._wanted.clear()
            last = self._stop.is_set()
            try:
                self._bring()
                pause_s = _FIRST_PAUSE_S
            except (DsfnError, OSError) as error:
                _LOG.warning("Checkpoints of the ledger stay here for now: %s", error)
                if not last:
                    self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)
                self._wanted.set()
            if last:
                return

    def _bring(self) -> None:
        name = self._place.name
        while found := self._checkpoints(self._progress.of(name), _AT_ONCE):
            for number, text in found:
                self._place.put(number, text)
                self._progress.note(name, number)


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(number) for name, number in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
