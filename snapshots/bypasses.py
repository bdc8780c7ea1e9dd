"""Ways to a tensor's bytes that are no operation of torch, and what each has to wait for.

What is not here goes unseen: C++ that takes tensors without torch's dispatcher, DLPack's
exchange between C libraries, methods of `torch._C`'s own classes, which nothing can replace,
addresses and functions that were kept from an earlier call. For such code
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

# What gives a tensor's memory away or reads it itself, as far as torch has it: by module and name.
_TENSOR = (
    ("torch", "Tensor.__dlpack__"),
    ("torch", "Tensor.apply_"),
    ("torch", "Tensor.const_data_ptr"),
    ("torch", "Tensor.data_ptr"),
    ("torch", "Tensor.map2_"),
    ("torch", "Tensor.map_"),
    ("torch", "Tensor.numpy"),
    ("torch", "Tensor.tolist"),
    ("torch", "Tensor.untyped_storage"),
    ("torch", "to_dlpack"),
    ("torch._C", "_data_address"),
    ("torch._C", "_to_dlpack"),
    ("torch._C", "_to_dlpack_versioned"),
    ("torch.utils.dlpack", "to_dlpack"),
)
# What has operations pass by the gate, as far as torch has it.
_UNSEEN = (
    ("torch._C", "_DisableTorchDispatch"),
    ("torch._C", "_ExcludeDispatchKeyGuard"),
    ("torch._C", "_ForceDispatchKeyGuard"),
    ("torch._C", "_SetExcludeDispatchKeyGuard"),
    ("torch._C", "_dispatch_tls_set_dispatch_key_excluded"),
    ("torch.utils._mode_utils", "no_dispatch"),
    ("torch.utils._python_dispatch", "_disable_current_modes"),
)
# What runs code of which nobody knows what it reads.
_ANY = (
    ("_thread", "start_new_thread"),
    ("os", "fork"),
    ("threading", "Thread.start"),
    ("torch._C", "ScriptFunction.__call__"),
    ("torch._C", "ScriptMethod.__call__"),
    ("torch._dynamo.eval_frame", "_callback_from_stance"),  # runs for each call of compiled code
    ("torch.cuda.graphs", "CUDAGraph.replay"),
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
        for module, path in _TENSOR:
            _wrap(undo, module, path, partial(_before_each, before_tensor))
        for module, path in _UNSEEN:
            _wrap(undo, module, path, lambda *_, **__: before_any())
        for module, path in _ANY:
            known = _wrap(undo, module, path, lambda *_, **__: before_any())
            if module in sys.modules and not known:
                before_any()
        absent = [module for module, _ in _ANY if module not in sys.modules]
        _watch_imports(undo, absent, before_any)
        yield


def _before_each(before_tensor: Callable[[torch.Tensor], None], *values: Any, **_: Any) -> None:
    for value in values:
        if isinstance(value, torch.Tensor):
            before_tensor(value)


def _wrap(undo: ExitStack, module: str, path: str, before: Callable[..., None]) -> bool:
    """Has `before` run before what is named, with what that is given; whether there is such."""
    owner: Any = sys.modules.get(module)
    *way, name = path.split(".")
    for step in way:
        owner = getattr(owner, step, None)
    if not hasattr(owner, name):
        return False
    original = getattr(owner, name)

    def run(*args: Any, **kwargs: Any) -> Any:
        before(*args, **kwargs)
        return original(*args, **kwargs)

    replace(undo, owner, name, run)
    return True


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
