"""What a search has made so far: values, and the states that are sets of them."""

from __future__ import annotations

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.planning.types import Way

Map = tuple[int, str | None]
"""A map: the number of the value whose elements it runs over, or of whose member."""


@dataclass(frozen=True, slots=True)
class Binding:
    """An argument: a value, by its number, and how it becomes one."""

    parameter: str
    value: int
    way: Way


@dataclass(frozen=True, slots=True)
class Value:
    """A value that is there. `function` (of the catalogue) made it from `bindings`, unless it is
    an input (None).

    `maps`: the maps around it. `inputs`: those that went into it, as bits. `weights`: how well
    what made it fits each wanted word. `ready_us`: when it is there at the earliest;
    `cost_nano`: of the call alone. `shape`: a number that values share which are alike in all
    that matters to what follows. `through`: the functions that it has been through.
    """

    number: int
    type: int
    maps: tuple[Map, ...]
    inputs: int
    weights: tuple[int, ...]
    ready_us: int
    cost_nano: int
    shape: int
    function: int | None = None
    bindings: tuple[Binding, ...] = ()
    through: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class State:
    """Values that are there: the inputs first, then what `calls` made. `loose` are those made
    values, as numbers, that no call has taken yet. `possible`: what could have been made instead
    of the last value."""

    values: tuple[Value, ...]
    calls: frozenset[int]
    loose: frozenset[int]
    cost_nano: int
    ready_us: int
    possible: tuple[Value, ...] = ()

    def having(self, value: Value, possible: tuple[Value, ...]) -> State:
        """The state after one more call."""
        taken = {binding.value for binding in value.bindings}
        return State(
            values=(*self.values, value),
            calls=self.calls | {value.number},
            loose=(self.loose - taken) | {value.number},
            cost_nano=self.cost_nano + value.cost_nano,
            ready_us=max(self.ready_us, value.ready_us),
            possible=possible,
        )
