"""Open files that workers of the pod open again by their number."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

from dsfn.functions.values import dataclass

# It does nothing until its input ends, which the kernel sees to when this process does.
_PROGRAM = "cat"


@dataclass(eq=False)
class HeldFiles:
    """Files are held by a process that has nothing else, as the pod's own process, which has the
    platform's secrets, lets nobody look into it."""

    _holders: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def hold(self, descriptors: Sequence[int]) -> Path:
        """The directory in which these files are by their numbers, until `close`; the descriptors
        stay the caller's. Raises `OSError`."""
        holder = subprocess.Popen(
            [_PROGRAM],
            pass_fds=descriptors,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={},
        )
        self._holders.append(holder)
        assert holder.stdin is not None and holder.stdout is not None
        # Until it runs its own program it is as closed to others as this process: an answer of it
        # shows that it does.
        holder.stdin.write(b".")
        if holder.stdout.read(1) != b".":
            raise OSError(f"{_PROGRAM} has ended")
        return Path(f"/proc/{holder.pid}/fd")

    def close(self) -> None:
        """Holds them no more."""
        for each in self._holders:
            with each:  # closes its input, and waits for it
                each.kill()
        self._holders.clear()
