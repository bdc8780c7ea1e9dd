"""What can go wrong between a memory owner and those who use it."""

from __future__ import annotations

from collections.abc import Mapping

from dsfn.functions.errors import DsfnError, SnapshotError, Unavailable, from_document

_RETRY_AFTER_S = 1.0


class MemoryFull(Unavailable):
    """Nothing was taken. Fields: `what` ("arena", "device" or "host"), `needed_bytes`,
    `free_bytes`, `retry_after_s`."""


class OwnerLost(Unavailable):
    """The memory owner has gone or does not answer. Fields: `reason`, `retry_after_s`."""


class DeviceFault(SnapshotError):
    """The device's driver refused. Fields: `operation`, `code`."""


class BadMessage(SnapshotError):
    """What came over the socket is not of the protocol."""


def memory_full(what: str, needed_bytes: int, free_bytes: int) -> MemoryFull:
    """The error that says what does not fit where."""
    return MemoryFull(
        f"The {what} has no room for {needed_bytes} bytes; {free_bytes} are free.",
        what=what,
        needed_bytes=needed_bytes,
        free_bytes=free_bytes,
        retry_after_s=_RETRY_AFTER_S,
    )


def owner_lost(reason: str) -> OwnerLost:
    """The error that says how the owner was lost."""
    message = f"The memory owner is lost: {reason}."
    return OwnerLost(message, reason=reason, retry_after_s=_RETRY_AFTER_S)


def read_error(document: Mapping[str, object]) -> DsfnError:
    """The error of a `Failed` message."""
    error = from_document(document)
    kind = _OWN.get(str(document.get("error")))
    return error if kind is None else kind(error.message, **error.fields)


_OWN = {kind.__name__: kind for kind in (MemoryFull, OwnerLost, DeviceFault, BadMessage)}
