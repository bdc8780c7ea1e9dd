"""What a peer's process says of its rounds: a line of JSON for each model."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from benchmarks.app.models import Answer


@dataclass(frozen=True, slots=True)
class Round:
    """From nothing on the GPU to an answer; milliseconds."""

    answer_ms: float
    load_ms: float
    forward_ms: float
    answer: Answer

    @classmethod
    def of(cls, began_ns: int, loaded_ns: int, ended_ns: int, answer: Answer) -> Round:
        """From readings of the clock."""
        return cls(
            answer_ms=(ended_ns - began_ns) / 1e6,
            load_ms=(loaded_ns - began_ns) / 1e6,
            forward_ms=(ended_ns - loaded_ns) / 1e6,
            answer=answer,
        )


def after_first(rounds: Iterator[Round]) -> Iterator[Round]:
    """All rounds but the one that warms up."""
    next(rounds)
    return rounds


def run_each(tasks: Sequence[str], rounds: Callable[[str, int], Iterable[Round]]) -> None:
    """Runs "MODEL:ROUNDS" for "MODEL:ROUNDS" and prints what came of each."""
    for task in tasks:
        name, _, count = task.partition(":")
        try:
            found = [asdict(each) for each in rounds(name, int(count))]
            line: dict[str, object] = {"model": name, "rounds": found}
        except Exception as error:  # noqa: BLE001  a peer may raise anything; it is reported
            traceback.print_exc()
            line = {"model": name, "failed": f"{type(error).__name__}: {error}"[:300]}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
