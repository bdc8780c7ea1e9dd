"""What a process that has gone on from an image makes its own, first of all.

Python keeps signals' handlers, the environment and random numbers in memory, where they are those
of the process that was written down. What is drawn when a process or a library begins stays as it
was: the secret of `hash`, where memory is, the C library's guards of stacks and pointers.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping

_RANDOM_BYTES = 32


def renew(environ: Mapping[str, str]) -> None:
    """Has this process hear the signals that it has handlers for, have this environment, and draw
    random numbers of its own."""
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) or number == signal.SIGINT:  # Python itself hears that at first
            signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environ)
    if "platform" in sys.modules:
        vars(sys.modules["platform"])["_uname_cache"] = None  # it has the machine's name
    vars(threading.main_thread())["_native_id"] = threading.get_native_id()
    random.seed()
    multiprocessing.current_process().authkey = os.urandom(_RANDOM_BYTES)
    if "ssl" in sys.modules:
        import ssl

        ssl.RAND_add(os.urandom(_RANDOM_BYTES), _RANDOM_BYTES)
