"""Which values can be given to a function in a state, the plainest ways first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from itertools import islice
from operator import attrgetter

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.planning.catalogue import Catalogue, Slot, Usable
from dsfn.functions.workflow.planning.types import Way
from dsfn.functions.workflow.planning.values import Binding, State, Value

# Ways to give a function its arguments that are tried when a value comes to a state, for each
# parameter that the value may be for.
MAX_TRIED = 32

Distance = tuple[int, int, int]
"""How far a value is from being meant for a parameter: not by its name, in a roundabout way,
made long ago."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a parameter may be given; nothing at all when `binding` is None."""

    binding: Binding | None
    distance: Distance = (0, 0, 0)

    @property
    def value(self) -> int | None:
        """The value's number."""
        return self.binding.value if self.binding else None

    def repeats(self, other: Choice) -> bool:
        """Whether two parameters would be given the same value in the same way."""
        own, theirs = self.binding, other.binding
        if own is None or theirs is None:
            return False
        return own.value == theirs.value and own.way == theirs.way


Chosen = tuple[Choice, ...]


@dataclass(eq=False)
class Arguments:
    """The arguments that there are in one state. Many functions have parameters that are alike:
    what fits each is found once."""

    catalogue: Catalogue
    state: State
    _found: dict[tuple[str, int, bool], list[Choice]] = field(default_factory=dict)

    def of(self, function: Usable, fresh: set[int]) -> list[tuple[Binding, ...]]:
        """Ways to give a function its arguments, at least one of them among the values `fresh`."""
        choices = [self._required(slot) for slot in function.required]
        if not all(choices):
            return []
        choices += [self._optional(slot) for slot in function.optional]
        found: list[Chosen] = []
        for at in range(len(choices)):
            # The first fresh argument is this one: so each way is come upon once.
            allowed = [
                [c for c in choice if j > at or (c.value in fresh) == (j == at)]
                for j, choice in enumerate(choices)
            ]
            found += [chosen for chosen in islice(_combined(allowed), MAX_TRIED) if chosen]
        found.sort(key=_total_distance)
        return [tuple(c.binding for c in chosen if c.binding) for chosen in found[:MAX_TRIED]]

    def _required(self, slot: Slot) -> list[Choice]:
        key = (slot.name, slot.type, True)
        if key not in self._found:
            found = [choice for value in self.state.values for choice in self._ways(value, slot)]
            self._found[key] = sorted(found, key=attrgetter("distance"))
        return self._found[key]

    def _optional(self, slot: Slot) -> list[Choice]:
        """Nothing, or an input that bears the parameter's name or, unless the parameter takes text
        or anything at all, is of its kind."""
        key = (slot.name, slot.type, False)
        if key not in self._found:
            self._found[key] = [Choice(None)]
            for given, value in zip(self.catalogue.given, self.state.values, strict=False):
                if given.name == slot.name or slot.parameter.kind not in ("json", "text", "file"):
                    self._found[key] += self._ways(value, slot)
        return self._found[key]

    def _ways(self, value: Value, slot: Slot) -> list[Choice]:
        return [
            Choice(Binding(slot.name, value.number, way), self._distance(value, slot, way))
            for way in self.catalogue.ways(value.type, slot)
            if way.collected <= len(value.maps)
        ]

    def _distance(self, value: Value, slot: Slot, way: Way) -> Distance:
        named = value.function is None and self.catalogue.given[value.number].name == slot.name
        detours = (way.member is not None) + way.mapped + (way.inner is not None) + way.collected
        recent = value.number if value.function is None else -value.number
        return (not named, detours, recent)


def _combined(choices: Sequence[Sequence[Choice]], chosen: Chosen = ()) -> Iterator[Chosen | None]:
    """One of each of the choices, in their order; None for each try that ends because a value
    would be an argument twice in the same way."""
    if not choices:
        yield chosen
        return
    for choice in choices[0]:
        if any(choice.repeats(other) for other in chosen):
            yield None
        else:
            yield from _combined(choices[1:], (*chosen, choice))


def _total_distance(chosen: Chosen) -> Distance:
    first, second, third = zip(*(choice.distance for choice in chosen), strict=True)
    return (sum(first), sum(second), sum(third))
