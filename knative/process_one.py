"""Process 1 of a container: the kernel keeps from it what it has no handler for, SIGTERM too."""

from __future__ import annotations

import os
import signal


def end_at_sigterm() -> None:
    """Has SIGTERM end this process at once. A program calls this first of all, and hears SIGTERM
    itself once it has something to see to its end: a pod that is told to end while it begins would
    live until its grace is over, which is as long as a call may take."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
