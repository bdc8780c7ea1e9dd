"""Workflows as documents: what the registry keeps, and what a revision's digest covers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from dsfn.functions.errors import DefinitionError
from dsfn.functions.interface import FilterInterface
from dsfn.functions.workflow.dag import (
    Call,
    Choice,
    Collected,
    Constant,
    Dag,
    Decide,
    Each,
    Expr,
    Fallback,
    Field,
    Input,
    Item,
    ListOf,
    ObjectOf,
    Result,
    Step,
    StepOptions,
    Within,
    WorkflowInput,
    WorkflowOptions,
    WorkflowResult,
)

Document = dict[str, Any]


def to_document(dag: Dag) -> Document:
    """A workflow as a JSON-able document."""
    return {
        "options": {**asdict(dag.options), "tags": list(dag.options.tags)},
        "description": dag.description,
        "inputs": [_input_document(i) for i in dag.inputs],
        "steps": [step_document(s) for s in dag.steps],
        "output": expr_document(dag.output),
        "triggers": [asdict(t) for t in dag.triggers],
        "result": None if dag.result is None else asdict(dag.result),
    }


def from_document(document: Mapping[str, Any]) -> Dag:
    """Reads back what `to_document` wrote. Raises `DefinitionError`."""
    try:
        options = {**document["options"], "tags": tuple(document["options"]["tags"])}
        return Dag(
            options=WorkflowOptions(**options),
            description=document["description"],
            inputs=tuple(_input_of(i) for i in document["inputs"]),
            steps=tuple(step_of(s) for s in document["steps"]),
            output=expr_of(document["output"]),
            triggers=tuple(FilterInterface(**t) for t in document["triggers"]),
            result=None if document["result"] is None else WorkflowResult(**document["result"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DefinitionError(f"This is not a document of a workflow ({error!r}).") from error


def digest_of(dag: Dag) -> str:
    """sha256 of the document as JSON with sorted keys, in lower-case hex."""
    text = json.dumps(to_document(dag), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def expr_document(expr: Expr) -> Document:
    """An expression as a document: see `dsfn.functions.workflow.dag`."""
    match expr:
        case Input(name):
            return {"input": name}
        case Result(step):
            return {"result": step}
        case Item(each, index):
            return {"item": [each, index]}
        case Constant(text):
            return {"value": json.loads(text)}
        case ListOf(items):
            return {"list": [expr_document(i) for i in items]}
        case ObjectOf(members):
            return {"object": {name: expr_document(e) for name, e in members}}
        case Field(of, key):
            return {"field": [expr_document(of), key]}
        case Choice(decide, then, otherwise):
            return {"choose": [decide, expr_document(then), expr_document(otherwise)]}
        case Collected(each, of):
            return {"collect": [each, expr_document(of)]}


def expr_of(document: Mapping[str, Any]) -> Expr:
    """Reads back what `expr_document` wrote. Raises `DefinitionError`."""
    if not isinstance(document, Mapping) or len(document) != 1:
        raise DefinitionError(f"{document!r} is not an expression of a workflow.")
    ((word, value),) = document.items()
    match word:
        case "input":
            return Input(str(value))
        case "result":
            return Result(str(value))
        case "item":
            return Item(str(value[0]), int(value[1]))
        case "value":
            return Constant.of(value)
        case "list":
            return ListOf(tuple(expr_of(v) for v in value))
        case "object":
            return ObjectOf(tuple((str(k), expr_of(v)) for k, v in value.items()))
        case "field":
            return Field(expr_of(value[0]), value[1])
        case "choose":
            return Choice(str(value[0]), expr_of(value[1]), expr_of(value[2]))
        case "collect":
            return Collected(str(value[0]), expr_of(value[1]))
    raise DefinitionError(f"{word!r} is no word for an expression of a workflow.")


def step_document(step: Step) -> Document:
    """A step as a document; `kind` says which."""
    within = None if step.within is None else asdict(step.within)
    match step:
        case Call():
            arguments = {name: expr_document(e) for name, e in step.arguments}
            return {
                "kind": "call",
                "id": step.id,
                "within": within,
                "function": step.function,
                "arguments": arguments,
                "options": _options_document(step.options),
            }
        case Decide():
            condition = expr_document(step.condition)
            return {"kind": "decide", "id": step.id, "within": within, "condition": condition}
        case Each():
            return {
                "kind": "each",
                "id": step.id,
                "within": within,
                "items": [expr_document(e) for e in step.items],
                "parallel": step.parallel,
            }


def step_of(document: Mapping[str, Any]) -> Step:
    """Reads back what `step_document` wrote. Raises `DefinitionError`."""
    id_, inside = str(document["id"]), document["within"]
    within = None if inside is None else Within(**inside)
    match document["kind"]:
        case "call":
            arguments = tuple((str(k), expr_of(v)) for k, v in document["arguments"].items())
            options = _options_of(document["options"])
            return Call(id_, str(document["function"]), arguments, within, options)
        case "decide":
            return Decide(id_, expr_of(document["condition"]), within)
        case "each":
            items = tuple(expr_of(e) for e in document["items"])
            return Each(id_, items, within, int(document["parallel"]))
    raise DefinitionError(f"{document['kind']!r} is no kind of step.")


def _options_document(options: StepOptions) -> Document:
    fallback = options.fallback
    shown: Document | None = None
    if fallback is not None and fallback.function is not None:
        shown = {"function": fallback.function}
    elif fallback is not None and fallback.value is not None:
        shown = expr_document(fallback.value)
    return {**asdict(options), "fallback": shown}


def _options_of(document: Mapping[str, Any]) -> StepOptions:
    shown = document["fallback"]
    fallback = None
    if shown is not None and "function" in shown:
        fallback = Fallback(function=str(shown["function"]))
    elif shown is not None:
        fallback = Fallback(value=Constant.of(shown["value"]))
    return StepOptions(**{**document, "fallback": fallback})


def _input_document(given: WorkflowInput) -> Document:
    default = None if given.default is None else expr_document(given.default)
    schema = None if given.schema is None else dict(given.schema)
    return {
        "name": given.name,
        "kind": given.kind,
        "many": given.many,
        "schema": schema,
        "required": given.required,
        "default": default,
    }


def _input_of(document: Mapping[str, Any]) -> WorkflowInput:
    shown = document["default"]
    default = None if shown is None else Constant.of(shown["value"])
    return WorkflowInput(**{**document, "default": default})
