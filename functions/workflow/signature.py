"""What a workflow takes and gives, read from its annotations.

As of functions, but that a list of parts is something that a workflow may take and give.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dsfn.functions.adapters import schema_of
from dsfn.functions.annotations import Reading, read_parameter, read_result, without_none
from dsfn.functions.errors import DefinitionError
from dsfn.functions.part import Part
from dsfn.functions.shape import check_shape
from dsfn.functions.workflow.constants import constant_of
from dsfn.functions.workflow.dag import Constant, WorkflowInput, WorkflowResult

Mode = Literal["validation", "serialization"]


def signature_of(target: Callable[..., Any]) -> tuple[tuple[WorkflowInput, ...], WorkflowResult]:
    """The inputs and the result of a workflow's body. Raises `DefinitionError`."""
    name = target.__name__
    found = inspect.signature(target)
    check_shape(name, list(found.parameters.values()), found.return_annotation)
    try:
        hints = get_type_hints(target, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise DefinitionError(
            f"The annotations of '{name}' cannot be read: {error}.", function=name
        ) from error
    inputs = tuple(_input(name, p, hints[p.name]) for p in found.parameters.values())
    events = [i.name for i in inputs if i.kind == "event"]
    if len(events) > 1:
        raise DefinitionError(f"'{name}' takes more than one Event: {', '.join(events)}.")
    return inputs, _result(name, hints["return"])


def _input(workflow: str, parameter: inspect.Parameter, annotation: Any) -> WorkflowInput:
    what = f"'{parameter.name}'"
    part, many = _part_of_list(annotation)
    reading = read_parameter(workflow, parameter.name, part if many else annotation)
    default = _default(workflow, parameter, reading, many)
    schema = _schema(workflow, what, reading, "validation")
    return WorkflowInput(parameter.name, reading.kind, many, schema, default is None, default)


def _result(workflow: str, annotation: Any) -> WorkflowResult:
    part, many = _part_of_list(annotation)
    reading, streaming = read_result(workflow, part if many else annotation)
    if streaming:
        raise DefinitionError(
            f"The result of workflow '{workflow}' cannot be a stream; give a list.",
            function=workflow,
        )
    return WorkflowResult(
        reading.kind, many, _schema(workflow, "the result", reading, "serialization")
    )


def _part_of_list(annotation: Any) -> tuple[Any, bool]:
    """The part of `list[Image]`; the annotation itself when it is no list of parts."""
    plain, _ = without_none(annotation)
    if get_origin(plain) is not list:
        return annotation, False
    (item,) = get_args(plain)
    return (
        (item, True) if isinstance(item, type) and issubclass(item, Part) else (annotation, False)
    )


def _default(
    workflow: str, parameter: inspect.Parameter, reading: Reading, many: bool
) -> Constant | None:
    if parameter.default is inspect.Parameter.empty:
        return None
    try:
        default = constant_of(parameter.default)
    except TypeError as error:
        raise DefinitionError(
            f"The default of '{parameter.name}' of '{workflow}' {error}.", function=workflow
        ) from error
    if not _may_be_default(parameter.default, reading, many):
        raise DefinitionError(
            f"The default of '{parameter.name}' of '{workflow}' is not of kind {reading.kind};"
            " give it None, or none at all.",
            function=workflow,
        )
    return default


def _may_be_default(value: object, reading: Reading, many: bool) -> bool:
    if value is None or (reading.kind == "json" and not many):
        return True
    return isinstance(value, list) if many else reading.kind == "text" and isinstance(value, str)


def _schema(workflow: str, what: str, reading: Reading, mode: Mode) -> dict[str, Any] | None:
    if reading.kind != "json":
        return None
    return schema_of(workflow, what, reading.annotation, mode)
