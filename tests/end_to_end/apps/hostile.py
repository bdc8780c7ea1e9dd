"""Functions that behave badly towards their neighbours, or are called by clients that do."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import dsfn


@dsfn.function(max_replicas=1)
def size_slowly(text: str, wait_s: float = 0.0) -> int:
    """The length of a text, after a while."""
    time.sleep(wait_s)
    return len(text)


@dsfn.function(memory="200MiB", max_replicas=1)
def hold(megabytes: int) -> int:
    """Takes so much memory."""
    return len(bytearray(megabytes << 20))


@dsfn.function(max_replicas=1)
def fork(text: str) -> str:
    """Forks and lets the child return as well."""
    os.fork()
    return text


@dsfn.function(max_replicas=1)
def spoil(text: str) -> str:
    """Leaves nothing that can be printed to."""
    sys.stdout = None
    return text


@dsfn.function(max_replicas=1)
def leave_behind() -> int:
    """Starts a process that would outlive anybody."""
    return subprocess.Popen(["sleep", "600"]).pid


@dsfn.function(concurrency=4, max_replicas=1)
def share(exit_code: int, wait_s: float) -> str:
    """Ends the process that others use as well, or just takes a while."""
    time.sleep(wait_s)
    if exit_code:
        os._exit(exit_code)
    return "done"
