"""What most people do: a fresh Python process that loads a model from its file and asks it.

    python -m benchmarks.peers.fresh fresh-process DIRECTORY MODEL:ROUNDS ...

Each round is a process from its start to its answer; libraries and weights are in the page cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns

from benchmarks.peers.rounds import Round, run_each

_CODE = """
import json, sys
from pathlib import Path
from benchmarks.peers.holder import loaded
print(json.dumps(loaded(Path(sys.argv[1]), sys.argv[2])()))
"""


def rounds(directory: Path, name: str, count: int) -> Iterator[Round]:
    """From the start of a process to its answer."""
    for _ in range(count):
        began_ns = perf_counter_ns()
        command = (sys.executable, "-c", _CODE, str(directory), name)
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        ended_ns = perf_counter_ns()
        answer = json.loads(done.stdout)
        yield Round.of(began_ns, ended_ns - int(answer["forward_ms"] * 1e6), ended_ns, answer)


if __name__ == "__main__":
    place = Path(sys.argv[2])
    run_each(sys.argv[3:], lambda name, count: rounds(place, name, count))
