"""Stopping user code from outside, and nothing but user code.

A call goes `begin`, `arm`, (user code), `disarm`. Between `arm` and `disarm` a request
raises `Interrupted` in the call's thread; before, it is kept until `arm`; after, it comes
too late and is dropped. `Interrupted` may still surface inside `disarm`, so all three
belong into one `try`.
"""

from __future__ import annotations

import ctypes
import signal
import threading
from typing import Protocol


class Interrupted(BaseException):
    """Raised inside user code whose call was cancelled."""


class Interrupt(Protocol):
    """What a call tells of its progress."""

    def begin(self) -> None:
        """The call begins, in this thread."""

    def arm(self) -> None:
        """User code follows."""

    def disarm(self) -> None:
        """User code is over, however it ended."""


class SignalInterrupt:
    """For calls on the main thread, one after another: a request is a SIGUSR1.

    A blocked thread reads no frames. A signal belongs to the call in progress: the
    node sends it before it has seen that call's answer, hence before the next call.
    """

    def __init__(self) -> None:
        self._preparing = self._armed = self._asked = False
        signal.signal(signal.SIGUSR1, lambda *_: self._on_signal())

    def begin(self) -> None:
        """See `Interrupt`."""
        self._asked = False
        self._preparing = True

    def arm(self) -> None:
        """See `Interrupt`."""
        self._armed = True  # first, so that no signal falls between the two
        self._preparing = False
        if self._asked:
            self._armed = False
            raise Interrupted

    def disarm(self) -> None:
        """See `Interrupt`."""
        self._preparing = self._armed = False

    def _on_signal(self) -> None:
        if self._armed:
            self._armed = False
            raise Interrupted
        self._asked = self._preparing


class ThreadInterrupt:
    """For one call in a thread of its own. `changed` is notified of a request."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.asked = False
        self._armed = False
        self._thread = 0

    def begin(self) -> None:
        """See `Interrupt`."""
        self._thread = threading.get_ident()

    def arm(self) -> None:
        """See `Interrupt`."""
        with self.changed:
            if self.asked:
                raise Interrupted
            self._armed = True

    def disarm(self) -> None:
        """See `Interrupt`."""
        with self.changed:
            self._armed = False
            if self.asked:
                _raise_in(self._thread, None)

    def request(self) -> None:
        """Stops the call, once: asked again, it would break off what cleans up."""
        with self.changed:
            if self.asked:
                return
            self.asked = True
            self.changed.notify_all()
            if self._armed:
                _raise_in(self._thread, Interrupted)


def _raise_in(thread: int, exception: type[BaseException] | None) -> None:
    """Has `exception` raised in a thread as soon as it runs Python; None takes that back."""
    pending = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), pending)
