"""What user code raised, as an error of the tree, with the author's own frames alone."""

from __future__ import annotations

import errno
import linecache
import traceback
from collections.abc import Iterator
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException

from dsfn.functions.errors import (
    CallCancelled,
    CorruptBlob,
    DeployError,
    DsfnError,
    FunctionError,
    HandlerRaised,
    MemoryFull,
    OutOfMemory,
    ReplicaLost,
    RequestError,
)
from dsfn.runtime.worker.interrupts import Interrupted

MAX_MESSAGE_CHARS = 2000
MAX_TRACEBACK_CHARS = 20_000

_OURS = str(Path(__file__).parents[2])
_MACHINERY = ("<frozen importlib", "<frozen runpy")
# What CUDA and its libraries say when a GPU has no memory left for what they take on their own.
_NO_GPU_MEMORY = ("cuda error: out of memory", "_status_alloc_failed", "[cuda]: out of memory")
# What C++ says where Python has no MemoryError for it.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "cannot allocate memory")


def call_fault(error: BaseException, bundle: Path, memory_bytes: int | None) -> DsfnError:
    """The error of a call from whatever came out of it."""
    if isinstance(error, Interrupted):
        return CallCancelled("The call was cancelled.")
    if isinstance(error, RequestError | FunctionError | ReplicaLost | CorruptBlob):
        return error
    if is_gpu_memory_full(error):
        traceback.clear_frames(error.__traceback__)
        return gpu_memory_full()
    if is_out_of_memory(error):
        # The frames hold what filled the memory, and memory is needed to answer.
        traceback.clear_frames(error.__traceback__)
        limit = "" if memory_bytes is None else f" of {memory_bytes} bytes"
        return OutOfMemory(
            f"The function needs more memory than its limit{limit}.", limit_bytes=memory_bytes
        )
    return HandlerRaised(
        describe(error),
        exception=type(error).__qualname__,
        traceback=author_traceback(error, bundle),
    )


def author_fault(
    kind: type[DeployError], what: str, error: BaseException, bundle: Path, function: str | None
) -> DeployError:
    """An author's mistake: `what` failed, because of `error`."""
    if isinstance(error, DeployError):
        fields = {"function": function, **_shown(error, bundle), **error.fields}
        return type(error)(error.message, **fields)
    sentence = f"{what} failed: {describe(error)}"
    return kind(sentence, function=function, traceback=author_traceback(error, bundle))


def _shown(error: DeployError, bundle: Path) -> dict[str, str]:
    """The field `traceback`: of the exception of the author's that an error tells of, or of a
    refusal that does not name its line itself."""
    cause = error.__cause__
    if cause is not None and not isinstance(cause, DsfnError) and _frames(cause, bundle):
        return {"traceback": author_traceback(cause, bundle)}
    return {} if "line" in error.fields else _frames(error, bundle)


def _frames(error: BaseException, bundle: Path) -> dict[str, str]:
    """A traceback as the field of an error: where the author's code was.

    Its sentence is not repeated, and there is no such field when none of the frames is theirs.
    """
    root = f"{bundle}/"
    stack = TracebackException.from_exception(error, compact=True).stack
    own = [_renamed(frame, root) for frame in stack if frame.filename.startswith(root)]
    if not own:
        return {}
    lines = StackSummary.from_list(own).format()
    return {"traceback": "".join(["Traceback (most recent call last):\n", *lines])}


def is_gpu_memory_full(error: BaseException) -> bool:
    """Whether torch, CUDA or one of its libraries found no room on a GPU."""
    if not isinstance(error, RuntimeError):
        return False
    said = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(s in said for s in _NO_GPU_MEMORY)


def gpu_memory_full() -> MemoryFull:
    """The error for that: others hold what the function needs."""
    return MemoryFull(
        "The GPU has no room for what the function allocates beside its weights.",
        what="device",
        retry_after_s=1,
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, in Python or below it."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(s in str(error).lower() for s in _NO_MEMORY)


def describe(error: BaseException) -> str:
    """An exception in one line, such as "ValueError: too short"."""
    name = type(error).__qualname__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  an author's __str__ may raise anything
        text = "(its text cannot be shown)"
    if len(text) > MAX_MESSAGE_CHARS:
        text = text[:MAX_MESSAGE_CHARS] + "..."
    return f"{name}: {text}" if text else name


def author_traceback(error: BaseException, bundle: Path) -> str:
    """The traceback as Python prints it, files named as they are in the bundle.

    Frames outside the bundle are left out, unless there are none inside.
    """
    picture = TracebackException.from_exception(error, compact=True)
    root = f"{bundle}/"
    for part in _linked(picture):
        own = [f for f in part.stack if f.filename.startswith(root)]
        foreign = [f for f in part.stack if not _is_ours(f.filename)]
        part.stack[:] = [_renamed(frame, root) for frame in own or foreign]
        if isinstance(getattr(part, "filename", None), str):  # a SyntaxError's file
            part.filename = part.filename.removeprefix(root)
    text = "".join(picture.format())
    if len(text) <= MAX_TRACEBACK_CHARS:
        return text
    head, tail = MAX_TRACEBACK_CHARS // 4, MAX_TRACEBACK_CHARS * 3 // 4
    return f"{text[:head]}\n  ...\n{text[-tail:]}"


def _linked(picture: TracebackException) -> Iterator[TracebackException]:
    yield picture
    for other in (picture.__cause__, picture.__context__, *(picture.exceptions or ())):
        if other is not None:
            yield from _linked(other)


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, *_MACHINERY))


def _renamed(frame: FrameSummary, root: str) -> FrameSummary:
    # With its indentation, from which Python counts where the marks below it go.
    line = linecache.getline(frame.filename, frame.lineno or 0)
    return FrameSummary(
        frame.filename.removeprefix(root),
        frame.lineno,
        frame.name,
        lookup_line=False,
        line=line or frame.line,
        end_lineno=frame.end_lineno,
        colno=frame.colno,
        end_colno=frame.end_colno,
    )
