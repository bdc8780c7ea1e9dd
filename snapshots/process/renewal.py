"""What a process that has gone on from an image makes its own, first of all.

Python keeps signals' handlers, the environment and random numbers in memory, where they are those
of the process that was written down. The secret of `hash` stays: all that go on from one image, on
one machine, have the same.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Mapping

_RANDOM_BYTES = 32


def renew(environ: Mapping[str, str]) -> None:
    """Has this process hear the signals that it has handlers for, have this environment, and draw
    random numbers of its own."""
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environ)
    random.seed()
    multiprocessing.current_process().authkey = os.urandom(_RANDOM_BYTES)
    if "ssl" in sys.modules:
        import ssl

        ssl.RAND_add(os.urandom(_RANDOM_BYTES), _RANDOM_BYTES)
