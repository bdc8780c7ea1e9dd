"""Adapters for the JSON types of one function; pydantic's refusals become ours.

pydantic is imported when the first type comes that needs it, because `import dsfn` and a cold
worker must stay light.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NotRequired

from dsfn.functions.errors import DefinitionError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from dsfn.functions.plain import Adapter


def adapter_of(function: str, what: str, annotation: Any) -> Adapter:
    """The adapter of one type. Raises `DefinitionError` naming `what` of `function`."""
    from dsfn.functions.plain import PlainAdapter, plain_schema

    schema = plain_schema(annotation)
    return _adapter_of(function, what, annotation) if schema is None else PlainAdapter.of(schema)


def object_adapter(function: str, fields: Mapping[str, tuple[Any, bool]]) -> Adapter:
    """The adapter of a JSON object with these fields (type, required) and no others. Raises
    `DefinitionError`."""
    from dsfn.functions.plain import PlainAdapter, plain_object

    schema = plain_object(fields)
    return _object_adapter(function, fields) if schema is None else PlainAdapter.of(schema)


def schema_of(
    function: str, what: str, annotation: Any, mode: Literal["validation", "serialization"]
) -> dict[str, Any]:
    """The JSON schema of a type. Raises `DefinitionError` naming `what` of `function`."""
    from pydantic import PydanticUserError

    adapter = _adapter_of(function, what, annotation)
    try:
        return adapter.json_schema(mode=mode)
    except PydanticUserError as error:
        raise _no_json_form(function, what, error) from error


def _adapter_of(function: str, what: str, annotation: Any) -> TypeAdapter[Any]:
    from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        adapter.rebuild(raise_errors=True)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise _no_json_form(function, what, error) from error
    return adapter


def _object_adapter(function: str, fields: Mapping[str, tuple[Any, bool]]) -> TypeAdapter[Any]:
    from pydantic import ConfigDict
    from typing_extensions import TypedDict

    keys = {
        name: kind if required else NotRequired[kind] for name, (kind, required) in fields.items()
    }
    # TypedDict is a class factory to type checkers, which cannot follow computed keys.
    body = TypedDict("Body", keys)  # type: ignore[misc]
    setattr(body, "__pydantic_config__", ConfigDict(extra="forbid"))  # noqa: B010
    return _adapter_of(function, "a parameter", body)


def _no_json_form(function: str, what: str, error: Exception) -> DefinitionError:
    reason = str(error).partition("\n")[0]
    return DefinitionError(
        f"The type of {what} of '{function}' has no JSON form: {reason}", function=function
    )
