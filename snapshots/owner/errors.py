"""The errors of a memory owner, with what each has to say."""

from __future__ import annotations

from dsfn.functions.errors import (
    BadMessage,
    DeviceFault,
    DsfnError,
    MemoryFull,
    OwnerLost,
    UsageError,
)

# The driver's CUDA_ERROR_OUT_OF_MEMORY.
OUT_OF_MEMORY = 2
_RETRY_AFTER_S = 1.0


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


def why_lost(error: OSError | BadMessage) -> str:
    """How an owner was lost, by what came of its socket: one that is killed before it has read
    all that was sent resets the connection instead of ending it."""
    if isinstance(error, ConnectionError):
        return "it has ended"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def is_lasting(fault: DsfnError) -> bool:
    """Whether an owner that did not start for this will not start later either: what it was told
    makes no sense, or a device is not there. Memory comes free."""
    if isinstance(fault, DeviceFault):
        return fault.fields.get("code") != OUT_OF_MEMORY
    return isinstance(fault, UsageError)
