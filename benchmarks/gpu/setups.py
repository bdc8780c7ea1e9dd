"""How nodes are started for `coldstart_gpu`, and in which states functions are on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.gpu.models import MODELS

STATES = ("resident", "parked", "neighbour", "deep", "warm", "fork")
# What the node is told to do with a function's replicas before each call.
PARKED_AS = {
    "parked": "parked",
    "neighbour": "parked",
    "deep": "frozen",
    "warm": "absent",
    "fork": "absent",
}
SLOW_STATES = ("neighbour", "deep", "warm", "fork")
# Weights of 2 bytes are what a codec takes.
CODED_MODELS = ("text", "decoder")
_ROOM_BYTES = 512 << 20  # of the arena, for what lies between the slabs


@dataclass(frozen=True, slots=True)
class Setup:
    """A node's configuration beside its devices and arena, and the states measured on it.

    `compressed`: with the codec's library. `crowded`: the second device has no memory to keep a
    neighbour's slab in.
    """

    name: str
    devices: Sequence[str]
    states: tuple[str, ...]
    lines: tuple[str, ...] = ()
    compressed: bool = False
    crowded: bool = False
    has_warm_pool: bool = True

    def config(self, models: Sequence[str]) -> list[str]:
        """The lines of config.toml. A codec needs room for both forms of a slab."""
        sizes = [MODELS[model].size_bytes() for model in models]
        arena_bytes = sum(sizes) + _ROOM_BYTES + (max(sizes) if self.compressed else 0)
        return ["[gpu]", f"devices = {list(self.devices)}", f"arena = {arena_bytes}", *self.lines]


def setups(devices: Sequence[str], states: Sequence[str], has_codec: bool) -> list[Setup]:
    """The nodes that these states need, of those that the devices allow."""
    one, two = devices[:1], devices[:2]
    known = [
        Setup("one link", one, ("resident", "parked", "deep", "warm")),
        Setup("no warm pool", one, ("fork",), ("warm = 0",), has_warm_pool=False),
        Setup("one link, compressed", one, ("parked",), compressed=True),
        Setup("two links", two, ("parked",), crowded=True),
        Setup("two links, compressed", two, ("parked",), compressed=True, crowded=True),
        Setup("beside a neighbour", two, ("neighbour",)),
    ]
    possible = [
        replace(setup, states=tuple(state for state in setup.states if state in states))
        for setup in known
        if (len(devices) > 1 or setup.devices is one) and (has_codec or not setup.compressed)
    ]
    return [setup for setup in possible if setup.states]
