"""TorchScript modules: an archive without weights, and the weights as ordinary tensors."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import cast

import torch

Archive = tuple[bytes, Mapping[str, torch.Tensor]]
Scripted = torch.jit.ScriptModule | torch.jit.ScriptFunction  # type: ignore[type-arg]


def is_scripted(value: object) -> bool:
    """Whether `value` is a scripted or traced module or function."""
    return isinstance(value, Scripted)


def save_scripted(value: Scripted) -> Archive:
    """The archive of `value` with its parameters and buffers emptied, and these by name.

    `value` is as before when this returns or raises.
    """
    weights = {} if isinstance(value, torch.jit.ScriptFunction) else _weights(value)
    buffer = io.BytesIO()
    with _emptied(weights) as contents:
        torch.jit.save(value, buffer)
    return buffer.getvalue(), contents


def load_scripted(archive: bytes, weights: Mapping[str, torch.Tensor]) -> torch.jit.ScriptModule:
    """Loads the archive and points its parameters and buffers at `weights`.

    A function comes back as a module that is called like it.
    """
    loaded = torch.jit.load(io.BytesIO(archive), "cpu")  # type: ignore[no-untyped-call]
    module = cast("torch.jit.ScriptModule", loaded)
    for name, tensor in _weights(module).items():
        tensor.data = weights[name]
    return module


def _weights(module: torch.jit.ScriptModule) -> dict[str, torch.Tensor]:
    return dict(
        chain(
            module.named_parameters(remove_duplicate=False),
            module.named_buffers(remove_duplicate=False),
        )
    )


@contextmanager
def _emptied(weights: Mapping[str, torch.Tensor]) -> Iterator[Mapping[str, torch.Tensor]]:
    contents = {name: tensor.data for name, tensor in weights.items()}
    try:
        for tensor in weights.values():
            tensor.data = torch.empty(0, dtype=tensor.dtype)
        yield contents
    finally:
        for name, tensor in weights.items():
            tensor.data = contents[name]
