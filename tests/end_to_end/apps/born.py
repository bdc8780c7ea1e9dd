"""A function that tells what its process did for itself that every worker needs."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from types import ModuleType

import torch
from typing_extensions import TypedDict

import dsfn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Told(TypedDict):
    """The sum of the weights; the modules of dsfn that came after the function's own file, and the
    classes whose values were not made ready before it."""

    total: float
    late: list[str]
    unready: list[str]


def ours() -> dict[str, ModuleType]:
    """The modules of dsfn that are there."""
    return {name: module for name, module in sys.modules.items() if name.startswith("dsfn.")}


def unready() -> list[str]:
    """Classes of values of dsfn that would compile something for the first that is made."""
    return sorted(
        f"{name}.{cls.__qualname__}"
        for name, module in ours().items()
        for cls in vars(module).values()
        if isinstance(cls, type) and cls.__module__ == name and dataclasses.is_dataclass(cls)
        if "__init__" in vars(cls) and not inspect.isfunction(vars(cls)["__init__"])
    )


THERE = frozenset(ours())
UNREADY = unready()


@dsfn.function(gpu=1, max_replicas=1, park_after=3600, remove_after=3600)
class Born:
    """1 MiB."""

    def setup(self) -> None:
        self.weights = torch.ones(1 << 18, device=DEVICE)

    def __call__(self) -> Told:
        total = self.weights.sum().item()
        return {"total": total, "late": sorted(set(ours()) - THERE), "unready": UNREADY}
