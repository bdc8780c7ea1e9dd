"""Finds which part of a state cannot be captured, by trying the parts one by one."""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MethodType

import torch

Attempt = Callable[[object], Exception | None]
_MAX_DEPTH = 1000


def find_culprit(state: object, error: Exception, attempt: Attempt) -> tuple[str, Exception]:
    """The path of the deepest part of `state` that fails by itself, and its own error.

    `attempt` gives the error that capturing a value alone raises, or None. `error`
    is what the whole state raised.
    """
    path, whole = "self", state
    seen = [state]  # holds parts that were made for looking, so that identities stay unique
    for suffix, value in _attributes(state):
        found = attempt(value)
        if found is not None:
            path, whole, error = path + suffix, value, found
            break
    else:
        return path, error
    for _ in range(_MAX_DEPTH):
        if isinstance(error, RecursionError):  # every part of it is as bad as the next
            return path, error
        seen.append(whole)
        step = _failing_part(whole, seen, attempt)
        if step is None:
            return path, error
        suffix, whole, error = step
        path += suffix
    return path, error


def _failing_part(
    whole: object, seen: list[object], attempt: Attempt
) -> tuple[str, object, Exception] | None:
    for suffix, value in _parts(whole):
        if any(value is other for other in seen):
            continue
        error = attempt(value)
        if error is not None:
            return suffix, value, error
    return None


def _parts(whole: object) -> Iterator[tuple[str, object]]:
    if isinstance(whole, Mapping):
        for key, value in whole.items():
            yield "", key
            yield f"[{key!r}]", value
    elif isinstance(whole, list | tuple | set | frozenset):
        for index, value in enumerate(whole):
            yield f"[{index}]", value
    elif isinstance(whole, MethodType):
        yield ".__self__", whole.__self__
    elif isinstance(whole, partial):
        yield from ((".func", whole.func), (".args", whole.args), (".keywords", whole.keywords))
    elif isinstance(whole, torch.Tensor):
        yield from _attributes(vars(whole))
    elif not isinstance(whole, type):
        yield from _reduced_parts(whole)


def _reduced_parts(whole: object) -> Iterator[tuple[str, object]]:
    try:
        reduced = whole.__reduce_ex__(5)
    except Exception:  # noqa: BLE001  # the object's own code ran: then the object itself is the culprit
        return
    if not isinstance(reduced, tuple):
        return
    if isinstance(whole, torch.nn.Module):
        for members in (whole._parameters, whole._buffers, whole._modules):
            yield from _attributes(members)
    function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if function is not copyreg.__newobj__:  # type: ignore[attr-defined]  # typeshed lacks it
        yield from (("", value) for value in arguments)
    for part in state if isinstance(state, tuple) else (state,):
        yield from _attributes(part) if isinstance(part, Mapping) else (("", part),)
    yield from ((f"[{index}]", value) for index, value in enumerate(items or ()))
    yield from ((f"[{key!r}]", value) for key, value in pairs or ())


def _attributes(state: object) -> Iterator[tuple[str, object]]:
    if isinstance(state, Mapping):
        for name, value in state.items():
            yield f".{name}", value
