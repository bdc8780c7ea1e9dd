"""What a process that does not come on is at."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

# What a process is started with whose stacks can be asked for.
WITH_STACKS: Mapping[str, str] = MappingProxyType({"PYTHONFAULTHANDLER": "1"})


class Printing(Protocol):
    """A process and all that it has printed."""

    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str: ...


def stacks(of: Printing) -> str:
    """What it has printed, the stacks of its threads at last, which ends it; its exit code where it
    has ended before."""
    if (code := of.process.poll()) is not None:
        return f"{of.log}\nIt has ended with {code}."
    of.process.send_signal(signal.SIGABRT)
    of.process.wait(10)
    return of.log
