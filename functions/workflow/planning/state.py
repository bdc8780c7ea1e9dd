"""What a search has made so far: values, and the states that are sets of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

from dsfn.functions.workflow.planning.catalogue import Catalogue, Slot, Usable
from dsfn.functions.workflow.planning.model import ASSUMED_ITEMS
from dsfn.functions.workflow.planning.types import MAX_NESTING, Way

# Ways to give a function its arguments that are looked at in one state.
MAX_BINDINGS = 32

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
    what made it fits each wanted word. `ready_us`: when it is there at the earliest. `shape`:
    a number that values share which are alike in all that matters to what follows. `through`:
    the functions that it has been through.
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
    values, as numbers, that no call has taken yet."""

    values: tuple[Value, ...]
    calls: frozenset[int]
    loose: frozenset[int]
    cost_nano: int
    ready_us: int


@dataclass(eq=False)
class Workshop:
    """Makes values. The same call on the same arguments is the same value in every state."""

    catalogue: Catalogue
    values: list[Value] = field(default_factory=list)
    _made: dict[tuple[int, tuple[Binding, ...]], int] = field(default_factory=dict)
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

    def successors(self, state: State, functions: tuple[int, ...]) -> list[State]:
        """The states that one more call leads to; none for a call that gives nothing new."""
        found = []
        for i in functions:
            function = self.catalogue.usable[i]
            for bindings in self._bindings(state, function):
                value = self._value(i, function, bindings)
                if value is not None and not _is_known(state, value, self):
                    found.append(_with(state, value))
        return found

    def place_of(self, value: Value) -> tuple[object, ...]:
        """Type and maps of a value, the same for values whose maps run over values alike."""
        return self._places[value.shape]

    def _bindings(self, state: State, function: Usable) -> list[tuple[Binding, ...]]:
        """All ways to give the function its arguments, the plainest first. An optional parameter
        takes an input alone: by its name, or when it is of that kind of part."""
        choices: list[list[Binding | None]] = []
        for slot in function.required:
            fitting = self._fitting(state, slot)
            if not fitting:
                return []
            choices.append(list(fitting))
        choices += [[None, *self._wanting(slot)] for slot in function.optional]
        found: list[tuple[Binding, ...]] = []
        for chosen in product(*choices):
            bindings = tuple(b for b in chosen if b is not None)
            if bindings and len({(b.value, b.way) for b in bindings}) == len(bindings):
                found.append(bindings)
                if len(found) == MAX_BINDINGS:
                    break
        return found

    def _fitting(self, state: State, slot: Slot) -> list[Binding]:
        found = [
            (self._distance(value, slot, way), Binding(slot.name, value.number, way))
            for value in state.values
            for way in self.catalogue.ways(value.type, slot)
            if way.collected <= len(value.maps)
        ]
        return [binding for _, binding in sorted(found, key=lambda pair: pair[0])]

    def _distance(self, value: Value, slot: Slot, way: Way) -> tuple[int, int, int]:
        """How far a value is from being meant for a parameter: not by its name, in a
        roundabout way, made long ago."""
        named = value.function is None and self.catalogue.given[value.number].name == slot.name
        detours = (way.member is not None) + way.mapped + (way.inner is not None) + way.collected
        recent = value.number if value.function is None else -value.number
        return (not named, detours, recent)

    def _wanting(self, slot: Slot) -> list[Binding]:
        return [
            Binding(slot.name, number, way)
            for number, given in enumerate(self.catalogue.given)
            for way in self.catalogue.ways(given.type, slot)
            if given.name == slot.name or slot.parameter.kind not in ("json", "text", "file")
        ]

    def _value(self, i: int, function: Usable, bindings: tuple[Binding, ...]) -> Value | None:
        """What a call gives; None when its arguments are from maps that are not in one another,
        or have been through this function already."""
        key = (i, bindings)
        if key not in self._made:
            value = self._make(i, function, bindings)
            self._made[key] = -1 if value is None else value.number
            if value is not None:
                self.values.append(value)
        number = self._made[key]
        return None if number < 0 else self.values[number]

    def _make(self, i: int, function: Usable, bindings: tuple[Binding, ...]) -> Value | None:
        taken = [self.values[b.value] for b in bindings]
        scopes = [_maps(v, b.way) for v, b in zip(taken, bindings, strict=True)]
        maps = max(scopes, key=len)
        through = frozenset[int]().union(*(v.through for v in taken))
        if len(maps) > MAX_NESTING or any(maps[: len(scope)] != scope for scope in scopes):
            return None
        if i in through:
            return None
        inputs = 0
        for value in taken:
            inputs |= value.inputs
        columns = zip(*(v.weights for v in taken), function.weights, strict=True)
        weights = tuple(map(max, columns))
        depth = len(maps)
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


def _is_known(state: State, new: Value, workshop: Workshop) -> bool:
    """Whether the state has a value that serves in the place of a new one."""
    place = workshop.place_of(new)
    return any(
        old.number == new.number
        or (
            old.function is not None
            and workshop.place_of(old) == place
            and old.inputs | new.inputs == old.inputs
            and all(map(int.__ge__, old.weights, new.weights))
        )
        for old in state.values
    )


def _with(state: State, value: Value) -> State:
    taken = {b.value for b in value.bindings}
    return State(
        values=(*state.values, value),
        calls=state.calls | {value.number},
        loose=(state.loose - taken) | {value.number},
        cost_nano=state.cost_nano + value.cost_nano,
        ready_us=max(state.ready_us, value.ready_us),
    )
