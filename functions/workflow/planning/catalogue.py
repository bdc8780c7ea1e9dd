"""The offers of a node as a search needs them: numbers instead of schemas and words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from dsfn.functions.errors import InvalidInput
from dsfn.functions.interface import ParameterInterface
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.planning.model import ASSUMED_ITEMS, STEP_US, Flow, Offer, Request
from dsfn.functions.workflow.planning.types import MAX_NESTING, Types, Way, kind_of
from dsfn.functions.workflow.planning.words import weights_of, words_of
from dsfn.functions.workflow.types import result_type

# Functions of one node that a plan chooses from.
MAX_OFFERS = 1_000


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter with the number of its type."""

    parameter: ParameterInterface
    type: int

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.parameter.name


@dataclass(frozen=True, slots=True)
class Usable:
    """An offer; `gives` is the number of its result's type, `weights` how well it fits the
    wanted words. `latency_us` and `cost_nano`: of one call. `rounds`: how often as long all
    items of a map take."""

    offer: Offer
    required: tuple[Slot, ...]
    optional: tuple[Slot, ...]
    gives: int
    latency_us: int
    cost_nano: int
    rounds: int
    weights: tuple[int, ...]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.offer.name

    @property
    def width(self) -> int:
        """How many values a call of it can take."""
        return len(self.required) + len(self.optional)


@dataclass(frozen=True, slots=True)
class Given:
    """An input. `type` is the number of its type."""

    name: str
    flow: Flow
    type: int


@dataclass(eq=False)
class Catalogue:
    """What there is to plan with, and what for."""

    request: Request
    types: Types
    words: tuple[str, ...]
    usable: tuple[Usable, ...]
    given: tuple[Given, ...]
    _outputs: dict[tuple[int, int], bool] = field(default_factory=dict)

    def ways(self, source: int, slot: Slot) -> tuple[Way, ...]:
        """How a value of a type can become the argument of a parameter."""
        return self.types.ways(source, slot.parameter, slot.type)

    def is_output(self, source: int, depth: int) -> bool:
        """Whether values of a type, joined into lists by the `depth` maps around them, are what
        is wanted."""
        key = (source, depth)
        if key not in self._outputs:
            joined = source
            for _ in range(depth):
                joined = self.types.list_of(joined)
            self._outputs[key] = self._is_output(joined, self.request.output)
        return self._outputs[key]

    def may_be_output(self, source: int) -> bool:
        """Whether values of a type are what is wanted inside any number of maps."""
        return any(self.is_output(source, depth) for depth in range(MAX_NESTING + 1))

    def _is_output(self, source: int, wanted: Flow) -> bool:
        types = self.types
        if wanted.many:
            element = types.element(source)
            return element is not None and self._is_output(element, Flow(wanted.media))
        kind = kind_of(wanted.media)
        # A JSON string is a text, which nobody means who asks for JSON.
        return kind == "text" if types.is_text(source) else kind == types.kind(source)


def catalogue_of(request: Request, offers: Iterable[Offer]) -> Catalogue:
    """The catalogue of these offers, by name. Raises `InvalidInput` when they are too many."""
    found = sorted(offers, key=lambda offer: offer.name)
    if len(found) > MAX_OFFERS:
        raise InvalidInput(f"A plan can choose from {MAX_OFFERS} functions at most.", field="body")
    types, words = Types(), words_of(request.want)
    usable = (_usable(types, offer, words) for offer in found)
    given = tuple(
        Given(name, flow, _input_type(types, flow)) for name, flow in request.inputs.items()
    )
    return Catalogue(request, types, words, tuple(filter(None, usable)), given)


def _usable(types: Types, offer: Offer, words: tuple[str, ...]) -> Usable | None:
    """None for a function whose result is a stream that no step can take as one value."""
    interface, result = offer.interface, offer.interface.result
    if result_type(result) is None:
        return None
    one = types.of(result.kind, result.schema or {})
    is_list = result.streaming and result.kind == "json"
    slots = [Slot(p, types.of(p.kind, p.schema or {})) for p in interface.parameters]
    return Usable(
        offer=offer,
        required=tuple(s for s in slots if s.parameter.required),
        optional=tuple(s for s in slots if not s.parameter.required),
        gives=types.list_of(one) if is_list else one,
        latency_us=offer.estimate.expected_us + STEP_US,
        cost_nano=offer.estimate.expected_nano,
        rounds=-(-ASSUMED_ITEMS // max(1, min(ASSUMED_ITEMS, offer.lanes))),
        weights=weights_of(offer, words),
    )


def _input_type(types: Types, flow: Flow) -> int:
    kind = kind_of(flow.media)
    one = types.of(kind, None)
    return types.list_of(one) if flow.many else one
