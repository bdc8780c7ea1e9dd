"""From one annotation to its kind: a part, an event, or JSON."""

from __future__ import annotations

import collections.abc as abc
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from dsfn.functions.errors import DefinitionError
from dsfn.functions.event import Event
from dsfn.functions.interface import Kind
from dsfn.functions.parts import Part
from dsfn.functions.values import dataclass

_STREAMS = (
    abc.Iterator,
    abc.Iterable,
    abc.Generator,
    abc.AsyncIterator,
    abc.AsyncIterable,
    abc.AsyncGenerator,
)
_INSTEAD = {
    "numpy": "Tensor (Tensor.of(array), tensor.numpy()) or list[float]",
    "torch": "Tensor (Tensor.of(tensor), tensor.numpy())",
    "PIL": "Image (Image.of(picture), image.pil())",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """An annotation understood. `optional` is for parts and events; JSON types say it."""

    kind: Kind
    annotation: Any
    optional: bool = False


def read_parameter(function: str, name: str, annotation: Any) -> Reading:
    """The kind of a parameter. Raises `DefinitionError` naming it."""
    return _read(function, f"Parameter '{name}'", annotation)


def read_result(function: str, annotation: Any) -> tuple[Reading, bool]:
    """The kind of a result (of an item, if it streams), and whether it streams."""
    if get_origin(annotation) in _STREAMS:
        return _read(function, "The result", get_args(annotation)[0]), True
    if annotation in _STREAMS:
        return _read(function, "The result", Any), True
    return _read(function, "The result", annotation), False


def _read(function: str, what: str, annotation: Any) -> Reading:
    plain, optional = without_none(annotation)
    if get_origin(plain) is Annotated:
        plain = get_args(plain)[0]
    if isinstance(plain, type) and issubclass(plain, Part) and hasattr(plain, "kind"):
        return Reading(plain.kind, plain, optional)
    if plain is Event:
        return Reading("event", plain, optional)
    for inner in _types_in(annotation):
        _refuse_foreign(function, what, inner)
    return Reading("json", annotation)


def without_none(annotation: Any) -> tuple[Any, bool]:
    """X of `X | None`, and whether it was that; else the annotation itself."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    others = [a for a in get_args(annotation) if a is not type(None)]
    return (others[0], True) if len(others) == 1 else (annotation, False)


def _types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    origin = get_origin(annotation)
    if origin is not None:
        yield origin
    for inner in get_args(annotation)[: 1 if origin is Annotated else None]:
        yield from _types_in(inner)


def _refuse_foreign(function: str, what: str, found: Any) -> None:
    if not isinstance(found, type):
        return
    root = found.__module__.partition(".")[0]
    problem = None
    if root in _INSTEAD:
        problem = f"has the type {root}.{found.__qualname__}, which does not travel"
        problem += f"; use {_INSTEAD[root]}"
    elif issubclass(found, Part) or found is Event:
        problem = f"has {found.__name__} inside another type"
        problem += f"; a list or choice of them is not supported, use {found.__name__} alone"
    elif found in (bytes, bytearray, memoryview):
        problem = f"has the type {found.__name__}, which JSON lacks; use File"
    if problem is not None:
        raise DefinitionError(f"{what} of '{function}' {problem}.", function=function)
