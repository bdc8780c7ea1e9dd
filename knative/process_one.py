"""Process 1 of a container: the kernel keeps from it what it has no handler for, SIGTERM too.

Its program stays process 1, as code of functions can neither kill nor stop that. So it begins with
SIGTERM blocked: one that comes before Python runs is kept by the kernel, through `exec`, until
`end_at_sigterm` asks for it.
"""

from __future__ import annotations

import os
import signal

_BLOCKED = ("env", "--block-signal=TERM")


def command_of(program: str) -> list[str]:
    """What a container runs for one of dsfn's programs, `control` say. The images' ENTRYPOINTs say
    the same."""
    return [*_BLOCKED, "python", "-m", f"dsfn.knative.{program}"]


def end_at_sigterm() -> None:
    """Has SIGTERM end this process at once, also one that came before. A program calls this first
    of all, and hears SIGTERM itself once it has something to see to its end: a pod that is told to
    end while it begins would live until its grace is over, which is as long as a call may take."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
