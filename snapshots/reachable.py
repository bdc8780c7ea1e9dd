"""The objects of a state: what capturing it would come by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch

from dsfn.snapshots.scripted import is_scripted

_LEAVES = (type, FunctionType, ModuleType, torch.Tensor, str, bytes, int, float, type(None))


def reachable(root: object) -> Iterator[object]:
    """`root` and all that it holds, each once: through containers and attributes, but not into
    code and tensors."""
    seen: dict[int, object] = {}  # which are kept, so that no address is used twice
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) not in seen:
            seen[id(value)] = value
            yield value
            waiting.extend(held_by(value))


def held_by(value: Any) -> Iterable[object]:
    """What an object holds itself."""
    if isinstance(value, _LEAVES):
        return ()
    if isinstance(value, torch.jit.ScriptModule):
        return [*value.parameters(), *value.buffers()]
    if is_scripted(value):
        return ()
    if isinstance(value, MethodType):
        return (value.__self__,)
    attributes = getattr(value, "__dict__", {})
    if isinstance(value, partial):
        return (value.func, *value.args, value.keywords, attributes)
    if isinstance(value, dict):
        return (*value.values(), *([attributes] if attributes else []))
    if isinstance(value, list | tuple | set | frozenset | deque):
        return (*value, *([attributes] if attributes else []))
    return (attributes,)
