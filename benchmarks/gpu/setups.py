"""How nodes are started for `coldstart_gpu`, and in which states functions are on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.gpu.models import MODELS

STATES = ("resident", "parked", "neighbour", "deep", "warm", "fork")
# What the node is told to do with a function's replicas before each call.
PARKED_AS = {
    "parked": "parked",
    "neighbour": "neighbour",
    "deep": "frozen",
    "warm": "absent",
    "fork": "absent",
}
SLOW_STATES = ("deep", "warm", "fork")
_ROOM_BYTES = 512 << 20  # of the arena, for what lies between the slabs


@dataclass(frozen=True, slots=True)
class Setup:
    """A node's configuration beside its devices and arena, and the states measured on it."""

    name: str
    devices: Sequence[str]
    states: tuple[str, ...]
    lines: tuple[str, ...] = ()

    def config(self, models: Sequence[str]) -> list[str]:
        """The lines of config.toml."""
        arena_bytes = sum(MODELS[model].size_bytes() for model in models) + _ROOM_BYTES
        return ["[gpu]", f"devices = {list(self.devices)}", f"arena = {arena_bytes}", *self.lines]


def setups(devices: Sequence[str], states: Sequence[str]) -> list[Setup]:
    """The nodes that these states need, of those that so many devices allow."""
    known = [
        Setup("one link", devices[:1], ("resident", "parked", "deep", "warm")),
        Setup("no warm pool", devices[:1], ("fork",), ("warm = 0",)),
    ]
    if len(devices) > 1:
        known.append(Setup("two links", devices[:2], ("parked",)))
    chosen = (replace(s, states=tuple(n for n in s.states if n in states)) for s in known)
    return [setup for setup in chosen if setup.states]
