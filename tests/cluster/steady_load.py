"""Callers that go on while parts of a platform fail: each insists on an answer to each call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import httpx

from dsfn.functions.errors import DsfnError

# Whoever calls asks again for so long; the Lease of a leader that died has to run out meanwhile.
PATIENCE_S = 90.0
_PAUSE_S = 0.2
# What says to come again, or that whoever was to answer has gone away.
_AGAIN = (502, 503, 504)

Ask = Callable[[str], httpx.Response | None]
"""Makes the call of an idempotency key; None stands for an answer that says nothing."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that was answered. `id`: the invocation's, "" where the answer does not say; `tries`:
    how often it was asked for; `at_s`: when, monotonic."""

    key: str
    id: str
    tries: int
    at_s: float


@dataclass(eq=False)
class Load:
    """What came of the calls so far."""

    name: str
    ask: Ask
    answered: list[Answered] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def rate(self, from_s: float, until_s: float) -> float:
        """Calls answered in a second between two moments."""
        count = sum(from_s <= each.at_s < until_s for each in list(self.answered))
        return count / (until_s - from_s)

    def longest_gap_s(self, from_s: float, until_s: float) -> float:
        """The longest time between two moments in which no call was answered."""
        at_s = [each.at_s for each in list(self.answered) if from_s < each.at_s < until_s]
        return max(after - before for before, after in pairwise([from_s, *sorted(at_s), until_s]))

    def run(self, caller: int) -> None:
        """One caller, until all are told to stop; the last call is seen through."""
        number = 0
        while not self._over.is_set():
            number += 1
            self._insist(f"{self.name}-{caller}-{number}")

    def _insist(self, key: str) -> None:
        end_s, tries, last = time.monotonic() + PATIENCE_S, 0, ""
        while time.monotonic() < end_s:
            tries += 1
            try:
                answer = self.ask(key)
            except (httpx.TransportError, DsfnError) as error:
                last = f"{type(error).__name__}: {error}"
            else:
                if answer is None or answer.status_code < 300:
                    id_ = "" if answer is None else answer.headers.get("dsfn-invocation-id", "")
                    self.answered.append(Answered(key, id_, tries, time.monotonic()))
                    return
                last = f"{answer.status_code} {answer.text}"
                if answer.status_code not in _AGAIN:
                    break
            time.sleep(_PAUSE_S)
        self.failed.append(f"{key}: {last}")


@contextmanager
def load(name: str, ask: Ask, callers: int) -> Iterator[Load]:
    """So many callers, who stop at the block's end; none of their calls may have failed then."""
    found = Load(name, ask)
    threads = [threading.Thread(target=found.run, args=(each,)) for each in range(callers)]
    for each in threads:
        each.start()
    try:
        yield found
    finally:
        found._over.set()
        for each in threads:
            each.join()
    assert not found.failed, found.failed[:3]
