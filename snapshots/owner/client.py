"""A worker's end of its socket to the memory owner."""

from __future__ import annotations

import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from dsfn.functions.errors import BadMessage, from_document
from dsfn.snapshots.owner.errors import owner_lost
from dsfn.snapshots.owner.messages import (
    Check,
    Checked,
    Copied,
    Failed,
    Granules,
    Map,
    Message,
    Release,
    Released,
    close_all,
    receive,
    send,
)

PATIENCE_S = 30.0
_SLOWEST_CHECK_BYTES_PER_S = 100_000_000


@dataclass(frozen=True, slots=True)
class Mapped:
    """A mapping: its number, its granules' sizes and descriptors in order, and the descriptor
    of its page for `ProgressReader`."""

    number: int
    sizes: list[int]
    descriptors: list[int]
    progress: int


class OwnerClient:
    """Asks one thing at a time; whoever asks holds `lock`. `patience_s` bounds each wait.

    The connection is the client's, and ends with it.

    After `OwnerLost` every call raises it again: whoever did not answer in time might
    answer the wrong question.
    """

    def __init__(self, connection: socket.socket, patience_s: float = PATIENCE_S) -> None:
        self.lock = Lock()
        self._connection = connection
        self._connection.settimeout(patience_s)
        weakref.finalize(self, connection.close)
        self._patience_s = patience_s
        self._last = 0
        self._lost = ""

    @contextmanager
    def map(self, digest: str, device: int) -> Iterator[Mapped]:
        """A new mapping on the owner's device number `device`.

        The owner copies the slab into it meanwhile. The descriptors end with the context.
        Raises `NotFound`, `MemoryFull`, `OwnerLost`; then there is no mapping.
        """
        self._last += 1
        number, sizes, descriptors, more = self._last, list[int](), list[int](), True
        progress: list[int] = []
        try:
            self._send(Map(number, digest, device))
            while more:
                message, received = self._receive()
                descriptors += received
                if not isinstance(message, Granules) or message.progress != (not sizes):
                    raise self._lose(f"it answered {type(message).__name__}")
                if message.progress and descriptors:
                    progress.append(descriptors.pop())
                sizes += message.sizes
                if len(descriptors) != len(sizes):
                    raise self._lose(f"it sent {len(descriptors)} of {len(sizes)} descriptors")
                more = message.more
            yield Mapped(number, sizes, descriptors, *progress)
        finally:
            close_all(descriptors + progress)

    def wait_copied(self, number: int) -> int:
        """Waits until the slab is in the mapping; microseconds that the copy took.

        Raises `OwnerLost`, `DeviceFault`; then the mapping still has to be released.
        """
        message, received = self._receive()
        close_all(received)
        if not isinstance(message, Copied) or message.id != number:
            raise self._lose(f"it answered {type(message).__name__}")
        return message.copy_us

    def check(self, number: int, size_bytes: int) -> bool:
        """Whether a mapping of so many bytes, in which the slab has arrived, is as it was
        captured, byte for byte.

        Takes as long as hashing. Raises `OwnerLost`, `MemoryFull` (of the host), `DeviceFault`.
        """
        self._connection.settimeout(self._patience_s + size_bytes / _SLOWEST_CHECK_BYTES_PER_S)
        try:
            self._send(Check(number))
            message, received = self._receive()
        finally:
            if not self._lost:
                self._connection.settimeout(self._patience_s)
        close_all(received)
        if not isinstance(message, Checked) or message.id != number:
            raise self._lose(f"it answered {type(message).__name__}")
        return message.is_intact

    def release(self, number: int) -> None:
        """Gives a mapping back, of which nothing is mapped here any more. Raises `OwnerLost`."""
        self._send(Release(number))
        while True:
            message, received = self._receive(failing=False)
            close_all(received)
            if isinstance(message, Released) and message.id == number:
                return
            # The copy may have ended, or failed, before it was called off.
            if not isinstance(message, Copied | Failed) or message.id != number:
                raise self._lose(f"it answered {type(message).__name__}")

    def _send(self, message: Message) -> None:
        if self._lost:
            raise owner_lost(self._lost)
        try:
            send(self._connection, message)
        except OSError as error:
            raise self._lose(error.strerror or "the socket is gone") from error

    def _receive(self, failing: bool = True) -> tuple[Message, list[int]]:
        """The next packet; a `Failed` one is raised if `failing`."""
        if self._lost:
            raise owner_lost(self._lost)
        try:
            message, received = receive(self._connection)
        except TimeoutError as error:
            raise self._lose(f"no answer within {self._patience_s:g} s") from error
        except (OSError, BadMessage) as error:
            raise self._lose(str(error)) from error
        if message is None:
            raise self._lose("it has ended")
        if failing and isinstance(message, Failed):
            close_all(received)
            raise from_document(message.error)
        return message, received

    def _lose(self, reason: str) -> Exception:
        self._lost = reason
        self._connection.close()
        return owner_lost(reason)
