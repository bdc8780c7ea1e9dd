"""pydantic's adapters for the JSON types of one function; its refusals become ours.

pydantic is imported when the first adapter is built, because `import dsfn` must stay light.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NotRequired

from dsfn.functions.errors import DefinitionError

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def adapter_of(function: str, what: str, annotation: Any) -> TypeAdapter[Any]:
    """The adapter of one type. Raises `DefinitionError` naming `what` of `function`."""
    from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        adapter.rebuild(raise_errors=True)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise _no_json_form(function, what, error) from error
    return adapter


def object_adapter(
    function: str, fields: Mapping[str, tuple[Any, bool]]
) -> TypeAdapter[dict[str, object]]:
    """The adapter of a JSON object with these fields (type, required) and no others."""
    from pydantic import ConfigDict
    from typing_extensions import TypedDict

    keys = {
        name: kind if required else NotRequired[kind] for name, (kind, required) in fields.items()
    }
    # TypedDict is a class factory to type checkers, which cannot follow computed keys.
    body = TypedDict("Body", keys)  # type: ignore[misc]
    setattr(body, "__pydantic_config__", ConfigDict(extra="forbid"))  # noqa: B010
    return adapter_of(function, "a parameter", body)


def schema_of(
    function: str,
    what: str,
    adapter: TypeAdapter[Any],
    mode: Literal["validation", "serialization"],
) -> dict[str, Any]:
    """The JSON schema of a type. Raises `DefinitionError` naming `what` of `function`."""
    from pydantic import PydanticUserError

    try:
        return adapter.json_schema(mode=mode)
    except PydanticUserError as error:
        raise _no_json_form(function, what, error) from error


def _no_json_form(function: str, what: str, error: Exception) -> DefinitionError:
    reason = str(error).partition("\n")[0]
    return DefinitionError(
        f"The type of {what} of '{function}' has no JSON form: {reason}", function=function
    )
