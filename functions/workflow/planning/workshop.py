"""Makes the values of a search, and the states that a state leads to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.planning.arguments import Arguments
from dsfn.functions.workflow.planning.catalogue import Catalogue
from dsfn.functions.workflow.planning.model import ASSUMED_ITEMS
from dsfn.functions.workflow.planning.types import MAX_NESTING, Way
from dsfn.functions.workflow.planning.values import Binding, Map, State, Value


@dataclass(eq=False)
class Workshop:
    """The same call on the same arguments is the same value in every state.

    `takers`: by type, the functions that values of it can be an argument of. `values`: all that
    were made, by number.
    """

    catalogue: Catalogue
    takers: Mapping[int, tuple[int, ...]]
    values: list[Value] = field(default_factory=list)
    _made: dict[tuple[int, tuple[Binding, ...]], Value | None] = field(default_factory=dict)
    _shapes: dict[tuple[object, ...], int] = field(default_factory=dict)
    _places: dict[int, tuple[object, ...]] = field(default_factory=dict)

    def start(self) -> State:
        """The state with nothing but the inputs."""
        words = (0,) * len(self.catalogue.words)
        for bit, given in enumerate(self.catalogue.given):
            number = len(self.values)
            shape = self._shape(given.type, (), 1 << bit, words, False)
            self.values.append(Value(number, given.type, (), 1 << bit, words, 0, 0, shape))
        return State(tuple(self.values), frozenset(), frozenset(), 0, 0)

    def successors(self, state: State) -> Iterator[State]:
        """The states that one more call leads to; none for a call that gives nothing new."""
        fresh = state.values[-1:] if state.calls else state.values
        found = [v for v in state.possible if not any(self._serves(f, v) for f in fresh)]
        arguments, numbers = Arguments(self.catalogue, state), {f.number for f in fresh}
        for i in sorted({i for f in fresh for i in self.takers.get(f.type, ())}):
            for bindings in arguments.of(self.catalogue.usable[i], numbers):
                value = self._value(i, bindings)
                if value and not any(self._serves(old, value) for old in state.values):
                    found.append(value)
        possible = tuple(found)
        return (state.having(value, possible) for value in possible)

    def _serves(self, old: Value, new: Value) -> bool:
        """Whether a value does in the place of a new one: of the same type, in maps over values
        alike, made from as many inputs and for as many wanted words."""
        return old.number == new.number or (
            old.function is not None
            and self._places[old.shape] == self._places[new.shape]
            and old.inputs | new.inputs == old.inputs
            and all(map(int.__ge__, old.weights, new.weights))
        )

    def _value(self, i: int, bindings: tuple[Binding, ...]) -> Value | None:
        """What a call gives; None when its arguments are from maps that are not in one another,
        or have been through this function already."""
        key = (i, bindings)
        if key not in self._made:
            value = self._made[key] = self._make(i, bindings)
            if value is not None:
                self.values.append(value)
        return self._made[key]

    def _make(self, i: int, bindings: tuple[Binding, ...]) -> Value | None:
        function = self.catalogue.usable[i]
        taken = [self.values[b.value] for b in bindings]
        scopes = [_maps(v, b.way) for v, b in zip(taken, bindings, strict=True)]
        maps = max(scopes, key=len)
        if len(maps) > MAX_NESTING or any(maps[: len(scope)] != scope for scope in scopes):
            return None
        through = frozenset[int]().union(*(v.through for v in taken))
        if i in through:
            return None
        inputs, depth = 0, len(maps)
        for value in taken:
            inputs |= value.inputs
        columns = zip(*(v.weights for v in taken), function.weights, strict=True)
        weights = tuple(map(max, columns))
        return Value(
            number=len(self.values),
            type=function.gives,
            maps=maps,
            inputs=inputs,
            weights=weights,
            ready_us=max(v.ready_us for v in taken) + function.latency_us * function.rounds**depth,
            cost_nano=function.cost_nano * ASSUMED_ITEMS**depth,
            shape=self._shape(function.gives, maps, inputs, weights, True),
            function=i,
            bindings=bindings,
            through=through | {i},
        )

    def _shape(
        self, type_: int, maps: tuple[Map, ...], inputs: int, weights: tuple[int, ...], made: bool
    ) -> int:
        around = tuple((self.values[source].shape, member) for source, member in maps)
        key = (type_, around, inputs, weights, made)
        shape = self._shapes.setdefault(key, len(self._shapes))
        self._places[shape] = (type_, around)
        return shape


def _maps(value: Value, way: Way) -> tuple[Map, ...]:
    """The maps around an argument."""
    if way.collected:
        return value.maps[: -way.collected]
    return (*value.maps, (value.number, way.member)) if way.mapped else value.maps
