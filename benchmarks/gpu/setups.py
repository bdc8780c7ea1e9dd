"""How nodes are started for `coldstart_gpu`, and in which states functions are on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.gpu.models import MODELS

STATES = ("resident", "parked", "neighbour", "deep", "warm", "fork")
# What the node is told to do with a function's replicas before each call.
PARKED_AS = {
    "parked": "parked",
    "neighbour": "neighbour",
    "deep": "deep",
    "warm": "absent",
    "fork": "absent",
}
SLOW_STATES = ("deep", "warm", "fork")
_ROOM_BYTES = 512 << 20  # of the arena, for what lies between the slabs


@dataclass(frozen=True, slots=True)
class Setup:
    """A node's configuration, and the states that are measured on it."""

    name: str
    devices: Sequence[str]
    states: tuple[str, ...]
    compress: bool = False
    warm_pool: bool = True

    def config(self, models: Sequence[str]) -> list[str]:
        """The lines of config.toml."""
        arena_bytes = sum(MODELS[model].size_bytes() for model in models) + _ROOM_BYTES
        return [
            "[gpu]",
            f"devices = {list(self.devices)}",
            f"arena = {arena_bytes}",
        ]


def setups(devices: Sequence[str], states: Sequence[str]) -> list[Setup]:
    """The nodes that these states need, of those that so many devices allow."""
    one = devices[:1]
    all_of_them = [
        Setup("one link", one, ("resident", "parked", "deep", "warm")),
        Setup("one link", one, ("fork",), warm_pool=False),
        Setup("one link, compressed", one, ("parked",), compress=True),
    ]
    if len(devices) > 1:
        all_of_them += [
            Setup("two links", devices[:2], ("parked", "neighbour")),
            Setup("two links, compressed", devices[:2], ("parked",), compress=True),
        ]
    chosen = (
        Setup(s.name, s.devices, tuple(state for state in s.states if state in states), s.compress)
        for s in all_of_them
    )
    return [setup for setup in chosen if setup.states]
