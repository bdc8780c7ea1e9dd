"""What a callable takes and gives, read from its annotations.

JSON kinds are checked by pydantic or its core; adapters are built when first needed,
because `import dsfn` must stay light.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, get_type_hints

from dsfn.functions.adapters import adapter_of, object_adapter, schema_of
from dsfn.functions.annotations import Reading, read_parameter, read_result
from dsfn.functions.errors import DefinitionError
from dsfn.functions.event import Filter
from dsfn.functions.interface import Interface, Kind, ParameterInterface, ResultInterface
from dsfn.functions.shape import call_of, check_shape, check_streaming
from dsfn.functions.values import dataclass

if TYPE_CHECKING:
    from dsfn.functions.plain import Adapter


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `optional`: None is a value it takes; `required`: it has no default."""

    name: str
    kind: Kind
    annotation: Any
    optional: bool
    required: bool


@dataclass(frozen=True, slots=True)
class Result:
    """The result, or one item of it when `streaming`. `annotation` is the type of an item."""

    kind: Kind
    annotation: Any
    optional: bool
    streaming: bool


@dataclass(frozen=True)
class Signature:
    """Parameters in order, and the result. `function` names the callable in errors."""

    function: str
    parameters: tuple[Parameter, ...]
    result: Result

    @cached_property
    def by_name(self) -> Mapping[str, Parameter]:
        """The parameters by their names."""
        return {p.name: p for p in self.parameters}

    @cached_property
    def json_only(self) -> bool:
        """Whether one adapter can read a whole JSON body."""
        return bool(self.parameters) and all(p.kind == "json" for p in self.parameters)

    @cached_property
    def event_parameter(self) -> Parameter | None:
        """The parameter that takes the event itself."""
        return next((p for p in self.parameters if p.kind == "event"), None)

    @cached_property
    def without_event(self) -> Signature:
        """The same but for the event parameter: what an event's data must hold."""
        others = tuple(p for p in self.parameters if p.kind != "event")
        return Signature(self.function, others, self.result)

    @cached_property
    def outline(self) -> Interface:
        """The interface without its schemas, which take long to build."""
        parameters = tuple(ParameterInterface(p.name, p.kind, p.required) for p in self.parameters)
        return Interface("", parameters, ResultInterface(self.result.kind, self.result.streaming))

    @cached_property
    def part_parameters(self) -> tuple[Parameter, ...]:
        """Those that travel as bytes of their own content type."""
        return tuple(p for p in self.parameters if p.kind not in ("json", "event"))

    @cached_property
    def body_adapter(self) -> Adapter:
        """Checks an object of the JSON parameters. Raises `DefinitionError`."""
        fields = {p.name: (p.annotation, p.required) for p in self.parameters if p.kind == "json"}
        return object_adapter(self.function, fields)

    def parameter_adapter(self, name: str) -> Adapter:
        """Checks one JSON parameter. Raises `DefinitionError`."""
        if name not in self._adapters:
            self._adapters[name] = adapter_of(
                self.function, f"'{name}'", self.by_name[name].annotation
            )
        return self._adapters[name]

    @cached_property
    def result_adapter(self) -> Adapter:
        """Checks and writes a JSON result, or one item of it. Raises `DefinitionError`."""
        return adapter_of(self.function, "the result", self.result.annotation)

    def prepare(self) -> None:
        """Builds every adapter and imports every decoder now, so that no call waits for it."""
        for parameter in self.part_parameters:
            parameter.annotation.prepare()
        if any(p.kind == "json" for p in self.parameters):
            _ = self.body_adapter
        if self.result.kind == "json":
            _ = self.result_adapter

    def interface(self, description: str, triggers: tuple[Filter, ...] = ()) -> Interface:
        """This signature as a document.

        Raises `DefinitionError` for a type without a schema, or without its decoder.
        """
        self._check_decoders()
        parameters = tuple(
            ParameterInterface(p.name, p.kind, p.required, self._parameter_schema(p))
            for p in self.parameters
        )
        schema = (
            schema_of(self.function, "the result", self.result.annotation, "serialization")
            if self.result.kind == "json"
            else None
        )
        result = ResultInterface(self.result.kind, self.result.streaming, schema)
        return Interface(description, parameters, result, tuple(t.interface() for t in triggers))

    def _parameter_schema(self, parameter: Parameter) -> dict[str, Any] | None:
        if parameter.kind != "json":
            return None
        what = f"'{parameter.name}'"
        return schema_of(self.function, what, parameter.annotation, "validation")

    def _check_decoders(self) -> None:
        for parameter in self.part_parameters:
            needs = parameter.annotation.needs
            if needs and find_spec(needs) is None:
                raise DefinitionError(
                    f"'{parameter.name}' of '{self.function}' is of type"
                    f" {parameter.annotation.__name__}, which needs the module {needs}:"
                    " install dsfn[media].",
                    function=self.function,
                )

    @cached_property
    def _adapters(self) -> dict[str, Adapter]:
        return {}


def signature_of(callable_: Callable[..., Any]) -> Signature:
    """The signature of a function, or of a class's `__call__`. Raises `DefinitionError`."""
    name = getattr(callable_, "__name__", type(callable_).__name__)
    target = call_of(callable_) if isinstance(callable_, type) else callable_
    found = inspect.signature(target)
    own = list(found.parameters.values())[1 if isinstance(callable_, type) else 0 :]
    check_shape(name, own, found.return_annotation)
    try:
        hints = get_type_hints(target, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise DefinitionError(
            f"The annotations of '{name}' cannot be read: {error}.", function=name
        ) from error
    parameters = tuple(_parameter(p, read_parameter(name, p.name, hints[p.name])) for p in own)
    events = [p.name for p in parameters if p.kind == "event"]
    if len(events) > 1:
        raise DefinitionError(f"'{name}' takes more than one Event: {', '.join(events)}.")
    reading, streaming = read_result(name, hints["return"])
    check_streaming(name, target, streaming)
    result = Result(reading.kind, reading.annotation, reading.optional, streaming)
    return Signature(name, parameters, result)


def _parameter(found: inspect.Parameter, reading: Reading) -> Parameter:
    required = found.default is found.empty
    return Parameter(found.name, reading.kind, reading.annotation, reading.optional, required)
