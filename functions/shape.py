"""What the plain shape of a callable must be, before its types are looked at."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from dsfn.functions.errors import DefinitionError


def call_of(target: type) -> Callable[..., Any]:
    """The `__call__` that a class or a base of it defines. Raises `DefinitionError`."""
    for base in target.__mro__:
        if "__call__" in vars(base):
            call: Callable[..., Any] = vars(base)["__call__"]
            return call
    raise DefinitionError(
        f"Class '{target.__name__}' has no __call__; add one, it is what a call runs.",
        function=target.__name__,
    )


def check_shape(name: str, parameters: list[inspect.Parameter], result: object) -> None:
    """Refuses what can never be called with named values. Raises `DefinitionError`."""
    for parameter in parameters:
        problem = None
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            problem = "collects any arguments (* or **); name each parameter"
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            problem = "is positional-only; values are given by name"
        elif parameter.annotation is parameter.empty:
            problem = "has no annotation; say its type, or Json for any JSON value"
        if problem is not None:
            raise DefinitionError(
                f"Parameter '{parameter.name}' of '{name}' {problem}.", function=name
            )
    if result is inspect.Signature.empty:
        raise DefinitionError(
            f"The result of '{name}' has no annotation; say its type, or Json, or None.",
            function=name,
        )


def check_streaming(name: str, target: Callable[..., Any], streaming: bool) -> None:
    """Refuses a generator whose result is not annotated as one. Raises `DefinitionError`."""
    generates = inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target)
    if generates and not streaming:
        raise DefinitionError(
            f"'{name}' yields, so its result must be annotated as Iterator[...]"
            " or AsyncIterator[...].",
            function=name,
        )


def required_names(method: Callable[..., Any], skip: int) -> str:
    """The parameters without a default, after the first `skip`, quoted and joined."""
    parameters = list(inspect.signature(method).parameters.values())[skip:]
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return ", ".join(
        f"'{p.name}'" for p in parameters if p.default is p.empty and p.kind not in collecting
    )
