"""Compute while loading: code runs while its weights arrive, and waits for what it touches.

Whatever order it takes them in, the answer is the same: what the slab's order did not foresee
waits longer. All waiting is the host's, so nothing on a device can hang.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import _push_mode

from dsfn.functions.errors import DsfnError, ReplicaLost
from dsfn.snapshots.arriving import Arriving
from dsfn.snapshots.bypasses import replace, watched
from dsfn.snapshots.gate_mode import GateMode
from dsfn.snapshots.memory import Slab

_RETRY_AFTER_S = 1.0


@contextmanager
def gated(slabs: Sequence[Slab]) -> Iterator[Arriving]:
    """Code inside waits for what it touches of slabs that are on their way.

    Only for the thread that enters, so when the process has others all is waited for first;
    a thread that is started inside waits for all. Raises `ReplicaLost` if what was needed did
    not come, whatever the code made of that: neither its answer nor its tensors are any good.
    """
    try:
        arriving = _arriving(slabs)
    except DsfnError as error:
        raise _lost(error) from error
    try:
        with _Gate(arriving) if arriving.spans else nullcontext():
            yield arriving
    finally:
        if arriving.failure is not None:
            raise _lost(arriving.failure) from arriving.failure


def _arriving(slabs: Sequence[Slab]) -> Arriving:
    """What is still on its way, after having waited for all if that is needed or at an end."""
    found = Arriving(slab.arrival for slab in slabs if slab.arrival is not None)
    if not found.spans:
        return found
    is_alone = len(sys._current_frames()) == 1
    if is_alone and not found.complete:
        return found
    for slab in slabs:
        slab.unpark()
    return Arriving(())


def _lost(error: DsfnError) -> ReplicaLost:
    reason = f"its weights did not come. {error.message}"
    return ReplicaLost(
        f"The replica is lost: {reason}",
        reason=reason,
        retry_after_s=_RETRY_AFTER_S,
    )


class _Gate:
    """Shut between enter and exit, or until all has arrived."""

    def __init__(self, arriving: Arriving) -> None:
        self._mode = GateMode(arriving, self._opened)
        self._thread = threading.get_ident()
        self._shut = ExitStack()
        self._inside = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as inside:
            replace(inside, torch.inference_mode, "__exit__", self._end_inference())
            inside.callback(self._mode.remove)
            inside.push(self._shut)
            _push_mode(self._mode)
            self._shut.enter_context(watched(self._before_tensor, self._before_any))
            self._go_if_open()
            self._inside = inside.pop_all()

    def __exit__(self, *_: object) -> None:
        self._inside.close()

    def _opened(self) -> None:
        """No operation can take the mode away, being inside it. The next call of a module can."""
        hook = register_module_forward_pre_hook(lambda *_: self._go_if_open())
        self._shut.callback(hook.remove)

    def _before_tensor(self, tensor: torch.Tensor) -> None:
        self._mode.wait_for_storage(tensor)
        self._go_if_open()

    def _before_any(self) -> None:
        self._mode.wait_for_all()
        self._go_if_open()

    def _go_if_open(self) -> None:
        """Once all is there nothing costs anything any more."""
        if not self._mode.open or threading.get_ident() != self._thread:
            return
        # A transform of functions (vmap, grad) gives its thread back as it found it, modes and all.
        transforms = torch._C._functorch.peek_interpreter_stack() is not None
        if not transforms and self._mode.is_pushed():
            self._mode.remove()
            self._shut.close()

    def _end_inference(self) -> Callable[..., None]:
        original = torch.inference_mode.__exit__

        def end(context: torch.inference_mode, *error: Any) -> None:
            original(context, *error)
            self._mode.tidy()

        return end
