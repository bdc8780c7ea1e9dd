"""Where the time of a function's last cold calls went."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import field

from dsfn.functions.values import dataclass
from dsfn.runtime.model import Answer

KEPT_CALLS = 20
KEPT_FUNCTIONS = 10_000


@dataclass(frozen=True, slots=True)
class ColdCall:
    """A call that waited for its replica. `phases_us` are in the order of time."""

    call_id: str
    revision: str
    device_class: str
    at_us: int
    phases_us: Mapping[str, int]


@dataclass(eq=False)
class Timelines:
    """The last `KEPT_CALLS` cold calls of each function, in memory."""

    _calls: OrderedDict[str, deque[ColdCall]] = field(default_factory=OrderedDict)

    def answered(self, function: str, answer: Answer, at_us: int) -> None:
        """Notes a call that was answered at `at_us`, if it was a cold one."""
        phases = answer.phases
        if not phases.is_cold:
            return
        calls = self._calls.setdefault(function, deque(maxlen=KEPT_CALLS))
        device_class = answer.charge.device_class
        calls.append(
            ColdCall(answer.call_id, answer.revision, device_class, at_us, phases.durations_us())
        )
        self._calls.move_to_end(function)
        if len(self._calls) > KEPT_FUNCTIONS:
            self._calls.popitem(last=False)

    def of(self, function: str) -> tuple[ColdCall, ...]:
        """The last cold calls of a function, newest first."""
        return tuple(reversed(self._calls.get(function, ())))
