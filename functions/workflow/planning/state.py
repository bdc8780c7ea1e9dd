"""What a search has made so far: values, and the states that are sets of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter

from dsfn.functions.workflow.planning.catalogue import Catalogue, Slot, Usable
from dsfn.functions.workflow.planning.model import ASSUMED_ITEMS
from dsfn.functions.workflow.planning.types import MAX_NESTING, Way

# Ways to give a function its arguments that are looked at when a value comes to a state, for
# each parameter that the value may be for.
MAX_BINDINGS = 32

Map = tuple[int, str | None]
"""A map: the number of the value whose elements it runs over, or of whose member."""


@dataclass(frozen=True, slots=True)
class Binding:
    """An argument: a value, by its number, and how it becomes one."""

    parameter: str
    value: int
    way: Way

    def same(self, other: Binding) -> bool:
        """Whether both are the same value in the same way."""
        return self.value == other.value and self.way == other.way


Distance = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a parameter may be given; nothing at all when `binding` is None."""

    binding: Binding | None
    distance: Distance

    @property
    def value(self) -> int | None:
        return self.binding.value if self.binding else None

    def is_as(self, other: _Choice) -> bool:
        """Whether another parameter is given the same in the same way."""
        own, theirs = self.binding, other.binding
        return own is not None and theirs is not None and own.same(theirs)


_Chosen = tuple[_Choice, ...]
_LEFT_OUT = _Choice(None, (0, 0, 0))


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
    values, as numbers, that no call has taken yet. `before`: what calls could have made in the
    state that this one came from by its last value."""

    values: tuple[Value, ...]
    calls: frozenset[int]
    loose: frozenset[int]
    cost_nano: int
    ready_us: int
    before: tuple[Value, ...] = ()


@dataclass(eq=False)
class Workshop:
    """Makes values. The same call on the same arguments is the same value in every state.

    `takers`: by type, the functions that values of it can be an argument of.
    """

    catalogue: Catalogue
    takers: Mapping[int, tuple[int, ...]]
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

    def successors(self, state: State) -> list[State]:
        """The states that one more call leads to; none for a call that gives nothing new."""
        fresh = state.values[-1:] if state.calls else state.values
        found = {v.number: v for v in state.before if not any(self._serves(f, v) for f in fresh)}
        for i in sorted({i for f in fresh for i in self.takers.get(f.type, ())}):
            for bindings in self._bindings(state, i, {f.number for f in fresh}):
                value = self._value(i, bindings)
                if value is not None and not any(self._serves(old, value) for old in state.values):
                    found[value.number] = value
        possible = tuple(found.values())
        return [_with(state, value, possible) for value in possible]

    def _serves(self, old: Value, new: Value) -> bool:
        """Whether a value does in the place of a new one: of the same type, in maps over values
        alike, made from as many inputs and for as many wanted words."""
        return old.number == new.number or (
            old.function is not None
            and self._places[old.shape] == self._places[new.shape]
            and old.inputs | new.inputs == old.inputs
            and all(map(int.__ge__, old.weights, new.weights))
        )

    def _bindings(self, state: State, i: int, fresh: set[int]) -> list[tuple[Binding, ...]]:
        """Ways to give a function its arguments, at least one of them fresh, the plainest first.
        An optional parameter takes an input alone, and only one that is meant for it."""
        function = self.catalogue.usable[i]
        choices = [self._fitting(state, slot) for slot in function.required]
        if not all(choices):
            return []
        choices += [[_LEFT_OUT, *self._meant(slot)] for slot in function.optional]
        found: list[_Chosen] = []
        for at in range(len(choices)):
            # The first fresh argument is this one: so each way is come upon once.
            allowed = [
                [c for c in choice if j > at or (c.value in fresh) == (j == at)]
                for j, choice in enumerate(choices)
            ]
            tried = islice(_combined(allowed, ()), MAX_BINDINGS)
            found += [chosen for chosen in tried if chosen is not None]
        found.sort(key=lambda chosen: [sum(d) for d in zip(*(c.distance for c in chosen))])
        return [tuple(c.binding for c in chosen if c.binding) for chosen in found[:MAX_BINDINGS]]

    def _fitting(self, state: State, slot: Slot) -> list[_Choice]:
        found = [
            _Choice(Binding(slot.name, value.number, way), self._distance(value, slot, way))
            for value in state.values
            for way in self.catalogue.ways(value.type, slot)
            if way.collected <= len(value.maps)
        ]
        return sorted(found, key=attrgetter("distance"))

    def _distance(self, value: Value, slot: Slot, way: Way) -> Distance:
        """How far a value is from being meant for a parameter: not by its name, in a
        roundabout way, made long ago."""
        named = value.function is None and self.catalogue.given[value.number].name == slot.name
        detours = (way.member is not None) + way.mapped + (way.inner is not None) + way.collected
        recent = value.number if value.function is None else -value.number
        return (not named, detours, recent)

    def _meant(self, slot: Slot) -> list[_Choice]:
        """The inputs that bear an optional parameter's name or, unless it takes text or anything
        at all, are of its kind."""
        return [
            _Choice(Binding(slot.name, value.number, way), self._distance(value, slot, way))
            for given, value in zip(self.catalogue.given, self.values, strict=False)
            for way in self.catalogue.ways(given.type, slot)
            if given.name == slot.name or slot.parameter.kind not in ("json", "text", "file")
        ]

    def _value(self, i: int, bindings: tuple[Binding, ...]) -> Value | None:
        """What a call gives; None when its arguments are from maps that are not in one another,
        or have been through this function already."""
        key = (i, bindings)
        if key not in self._made:
            value = self._make(i, self.catalogue.usable[i], bindings)
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


def _combined(choices: Sequence[Sequence[_Choice]], chosen: _Chosen) -> Iterator[_Chosen | None]:
    """One of each of the choices, in their order; None for each that is refused, since no value
    is an argument twice in one way."""
    if not choices:
        yield chosen
        return
    for choice in choices[0]:
        if choice.binding and any(choice.is_as(other) for other in chosen):
            yield None
        else:
            yield from _combined(choices[1:], (*chosen, choice))


def _with(state: State, value: Value, before: tuple[Value, ...]) -> State:
    taken = {b.value for b in value.bindings}
    return State(
        values=(*state.values, value),
        calls=state.calls | {value.number},
        loose=(state.loose - taken) | {value.number},
        cost_nano=state.cost_nano + value.cost_nano,
        ready_us=max(state.ready_us, value.ready_us),
        before=before,
    )
