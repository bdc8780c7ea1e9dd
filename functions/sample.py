"""A sample: the arguments of one call, given by the function's own class."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import ValidationError

from dsfn.functions.errors import DefinitionError
from dsfn.functions.event import Event
from dsfn.functions.jsonbody import named
from dsfn.functions.parts import Text
from dsfn.functions.signature import Parameter, Signature


def check_sample(signature: Signature, sample: object) -> dict[str, object]:
    """The arguments that `sample()` gave, as a call would get them.

    Raises `DefinitionError` when no call could have them.
    """
    if not isinstance(sample, Mapping):
        raise _wrong(
            signature, f"it gives a {type(sample).__name__}, not a dict of arguments by name"
        )
    for name in sample:
        if name not in signature.by_name:
            raise _wrong(signature, f"{name!r} is not something that the function takes")
    for parameter in signature.parameters:
        if parameter.required and parameter.name not in sample:
            raise _wrong(signature, f"'{parameter.name}' is missing")
    return {
        name: _argument(signature, signature.by_name[name], value) for name, value in sample.items()
    }


def _argument(signature: Signature, parameter: Parameter, value: object) -> object:
    if parameter.kind == "json":
        try:
            return signature.parameter_adapter(parameter.name).validate_python(value)
        except ValidationError as error:
            found = named(error, parameter.name)
            raise _wrong(signature, found.message.removesuffix(".")) from None
    if value is None and parameter.optional:
        return None
    if parameter.kind == "text" and isinstance(value, str):
        return Text(value)
    kind: type = Event if parameter.kind == "event" else parameter.annotation
    if not isinstance(value, kind):
        raise _wrong(
            signature, f"'{parameter.name}' is a {type(value).__name__}, not {kind.__name__}"
        )
    return value


def _wrong(signature: Signature, reason: str) -> DefinitionError:
    return DefinitionError(
        f"sample() of '{signature.function}' does not fit its signature: {reason}.",
        function=signature.function,
    )
