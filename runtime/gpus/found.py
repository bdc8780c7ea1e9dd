"""Which GPUs this machine has, found without CUDA: the node never loads its driver."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from dsfn.functions.values import dataclass

_DEVICE_FILES = "nvidia[0-9]*"


@dataclass(frozen=True, slots=True)
class Found:
    """The devices of a node; where there are none, `why_none` is half a sentence that says why."""

    devices: tuple[str, ...]
    why_none: str = ""


def find_gpus(wanted: tuple[str, ...] | None, device_files: Path = Path("/dev")) -> Found:
    """The GPUs that a node is to use: those that its configuration names, or else all."""
    if wanted is not None:
        return Found(wanted, "" if wanted else "its configuration gives it none")
    count = len(list(device_files.glob(_DEVICE_FILES)))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        count = min(count, len([name for name in visible.split(",") if name.strip()]))
    if not count:
        return Found((), "this machine has none")
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return Found((), "cuda-bindings is not installed: run `pip install 'dsfn[cuda]'`")
    return Found(tuple(f"cuda:{number}" for number in range(count)))
