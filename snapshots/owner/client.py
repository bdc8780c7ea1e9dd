"""A worker's end of its socket to the memory owner."""

from __future__ import annotations

import select
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from dsfn.functions.errors import BadMessage, DsfnError, from_document
from dsfn.functions.values import dataclass
from dsfn.snapshots.owner.errors import owner_lost, why_lost
from dsfn.snapshots.owner.messages import (
    Check,
    Checked,
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

    The connection is the client's, and ends with it. Several mappings may be on their way; the
    owner's word on each is kept until somebody waits for it.

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
        self._arriving: set[int] = set()
        self._ended: dict[int, Failed] = {}
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
                message, received = self._answer(number)
                descriptors += received
                if isinstance(message, Failed):
                    raise from_document(message.error)
                if not isinstance(message, Granules) or message.progress != (not sizes):
                    raise self._lose(f"it answered {type(message).__name__}")
                if message.progress and descriptors:
                    progress.append(descriptors.pop())
                sizes += message.sizes
                if len(descriptors) != len(sizes):
                    raise self._lose(f"it sent {len(descriptors)} of {len(sizes)} descriptors")
                more = message.more
            self._arriving.add(number)
            yield Mapped(number, sizes, descriptors, *progress)
        finally:
            close_all(descriptors + progress)

    def arrived(self, number: int) -> None:
        """The page of a mapping says that all of the slab is there: no word of it follows."""
        self._arriving.discard(number)

    def failure(self, number: int) -> DsfnError:
        """Why the slab of a mapping does not come, of which its page says so. The mapping still
        has to be released. Raises `OwnerLost`."""
        message, received = self._answer(number)
        close_all(received)
        self._arriving.discard(number)
        if not isinstance(message, Failed):
            raise self._lose(f"it answered {type(message).__name__}")
        return from_document(message.error)

    def check_alive(self, standing_s: float) -> None:
        """Raises `OwnerLost` if the owner has ended, or if `standing_s`, for which nothing has
        come that somebody waits for, is too long. Does not wait, and needs no `lock`."""
        if self._lost:
            raise owner_lost(self._lost)
        if standing_s > self._patience_s:
            raise self._lose(f"nothing came for {self._patience_s:g} s")
        try:
            poll = select.poll()
            poll.register(self._connection, select.POLLIN)
            ended = poll.poll(0) and not self._connection.recv(1, socket.MSG_PEEK)
        except OSError as error:
            raise self._lose(why_lost(error)) from error
        if ended:
            raise self._lose("it has ended")

    def check(self, number: int, size_bytes: int) -> bool:
        """Whether a mapping of so many bytes, in which the slab has arrived, is as it was
        captured, byte for byte.

        Takes as long as hashing. Raises `OwnerLost`, `MemoryFull` (of the host), `DeviceFault`.
        """
        self._connection.settimeout(self._patience_s + size_bytes / _SLOWEST_CHECK_BYTES_PER_S)
        try:
            self._send(Check(number))
            message, received = self._answer(number)
        finally:
            if not self._lost:
                self._connection.settimeout(self._patience_s)
        close_all(received)
        if isinstance(message, Failed):
            raise from_document(message.error)
        if not isinstance(message, Checked):
            raise self._lose(f"it answered {type(message).__name__}")
        return message.is_intact

    def release(self, number: int) -> None:
        """Gives a mapping back, of which nothing is mapped here any more. Raises `OwnerLost`."""
        self._send(Release(number))
        released = False
        while not released:
            message, received = self._answer(number)
            close_all(received)
            released = isinstance(message, Released)
            # The copy may have failed before it was called off.
            if not isinstance(message, Failed | Released):
                raise self._lose(f"it answered {type(message).__name__}")
        self._arriving.discard(number)

    def _send(self, message: Message) -> None:
        if self._lost:
            raise owner_lost(self._lost)
        try:
            send(self._connection, message)
        except OSError as error:
            raise self._lose(why_lost(error)) from error

    def _answer(self, number: int) -> tuple[Message, list[int]]:
        """The next packet about a mapping."""
        if number in self._ended:
            return self._ended.pop(number), []
        while True:
            message, received = self._receive()
            if message.id == number:
                return message, received
            close_all(received)
            if message.id not in self._arriving or not isinstance(message, Failed):
                raise self._lose(f"it spoke of mapping {message.id}")
            self._ended[message.id] = message

    def _receive(self) -> tuple[Message, list[int]]:
        if self._lost:
            raise owner_lost(self._lost)
        try:
            message, received = receive(self._connection)
        except TimeoutError as error:
            raise self._lose(f"no answer within {self._patience_s:g} s") from error
        except (OSError, BadMessage) as error:
            raise self._lose(why_lost(error)) from error
        if message is None:
            raise self._lose("it has ended")
        return message, received

    def _lose(self, reason: str) -> Exception:
        self._lost = reason
        self._connection.close()
        return owner_lost(reason)
