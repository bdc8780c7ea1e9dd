"""Ways to a tensor's bytes that are no operation of torch, and what each has to wait for.

What is not here goes unseen: C++ that takes tensors without torch's dispatcher, DLPack's
exchange between C libraries, addresses that were asked for in an earlier call. For such code
`dsfn.snapshots.prove` finds that it must not run while its weights arrive.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.abc import MetaPathFinder
from typing import Any

import torch

# Methods of a tensor that give its memory away or read it themselves.
_TENSOR = (
    "__dlpack__",
    "__repr__",
    "apply_",
    "data_ptr",
    "map2_",
    "map_",
    "numpy",
    "tolist",
    "untyped_storage",
)
# What runs code of which nobody knows what it reads: by module and name.
_ANY = (
    ("_thread", "start_new_thread"),
    ("os", "fork"),
    ("threading", "Thread.start"),
    ("torch._C", "ScriptFunction.__call__"),
    ("torch._C", "ScriptMethod.__call__"),
    ("torch._dynamo.eval_frame", "_callback_from_stance"),  # runs for each call of compiled code
    ("torch.cuda.graphs", "CUDAGraph.replay"),
    ("torch.utils.dlpack", "to_dlpack"),
    ("triton.compiler.compiler", "CompiledKernel.__getitem__"),
    ("triton.runtime.jit", "JITFunction.run"),
)


@contextmanager
def watched(
    before_tensor: Callable[[torch.Tensor], None], before_any: Callable[[], None]
) -> Iterator[None]:
    """Has `before_tensor` run before a tensor's memory is given away, `before_any` before code
    runs that may read any; at once, if a library has changed and hides where that is."""
    with ExitStack() as undo:
        for name in _TENSOR:
            _wrap(undo, torch.Tensor, name, partial(_before_each, before_tensor))
        for module, path in _ANY:
            if module in sys.modules and not _wrap_path(undo, module, path, before_any):
                before_any()
        absent = [module for module, _ in _ANY if module not in sys.modules]
        _watch_imports(undo, absent, before_any)
        yield


def _before_each(before_tensor: Callable[[torch.Tensor], None], *values: Any, **_: Any) -> None:
    for value in values:
        if isinstance(value, torch.Tensor):
            before_tensor(value)


def _wrap_path(undo: ExitStack, module: str, path: str, before_any: Callable[[], None]) -> bool:
    """Whether there is what `_ANY` names."""
    owner: Any = sys.modules[module]
    *way, name = path.split(".")
    for step in way:
        owner = getattr(owner, step, None)
    if not hasattr(owner, name):
        return False
    _wrap(undo, owner, name, lambda *_, **__: before_any())
    return True


def _wrap(undo: ExitStack, owner: Any, name: str, before: Callable[..., None]) -> None:
    original = getattr(owner, name)

    def run(*args: Any, **kwargs: Any) -> Any:
        before(*args, **kwargs)
        return original(*args, **kwargs)

    replace(undo, owner, name, run)


def replace(undo: ExitStack, owner: Any, name: str, value: object) -> None:
    """Gives `owner` another attribute until `undo` ends."""
    if name in vars(owner):
        undo.callback(setattr, owner, name, getattr(owner, name))
    else:
        undo.callback(delattr, owner, name)
    setattr(owner, name, value)


def _watch_imports(undo: ExitStack, names: list[str], before: Callable[[], None]) -> None:
    """What is imported meanwhile is not wrapped: everything has to be there before."""
    watch = _ImportWatch(names, before)
    # Lists of their own: an import that has begun goes on with the one that it has.
    sys.meta_path = [watch, *sys.meta_path]
    undo.callback(_forget, watch)


def _forget(watch: MetaPathFinder) -> None:
    sys.meta_path = [finder for finder in sys.meta_path if finder is not watch]


class _ImportWatch(MetaPathFinder):
    def __init__(self, names: list[str], before: Callable[[], None]) -> None:
        self._names = frozenset(names)
        self._before = before

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        """Part of `MetaPathFinder`: finds nothing."""
        if name in self._names:
            self._before()
