"""Workflows in YAML, for those who do not write Python. docs/workflow-yaml.md says how.

What is read is the same DAG that tracing gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from dsfn.functions.interface import KINDS, FilterInterface, Kind
from dsfn.functions.triggers import filter_of
from dsfn.functions.workflow.dag import (
    Constant,
    Dag,
    WorkflowInput,
    WorkflowOptions,
    WorkflowResult,
)
from dsfn.functions.workflow.settings import workflow_options
from dsfn.functions.workflow.structure import check_structure
from dsfn.functions.workflow.yaml_nodes import Node, at, read_nodes
from dsfn.functions.workflow.yaml_steps import read_steps

_OPTIONS = frozenset({"name", "timeout", "budget", "parallel", "schedule", "tags"})
_WORDS = _OPTIONS | {"description", "inputs", "steps", "output", "result", "triggers"}
_TYPE = frozenset({"type", "json"})
_JSON_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")

Type = tuple[Kind, bool, Mapping[str, Any] | None]


def read_workflow(source: bytes, file: str) -> Dag:
    """The workflow that a YAML file holds; `file` names it in errors.

    Raises `DefinitionError`, whose field `line` is that of the mistake.
    """
    root = read_nodes(source, file)
    words = root.members("a workflow", _WORDS)
    for needed in ("name", "steps", "output"):
        if needed not in words:
            root.refuse(f"a workflow needs '{needed}'")
    inputs = _inputs(words)
    steps, output = read_steps(words["steps"], words["output"], [i.name for i in inputs])
    description = words["description"].string("description") if "description" in words else ""
    dag = Dag(
        options=_options(words),
        description=description.strip(),
        inputs=inputs,
        steps=steps,
        output=output,
        triggers=_triggers(words),
        result=WorkflowResult(*_type(words["result"], "result")) if "result" in words else None,
    )
    with at(root):
        check_structure(dag)
    return dag


def _options(words: Mapping[str, Node]) -> WorkflowOptions:
    given = {name: node.plain() for name, node in words.items() if name in _OPTIONS}
    if "budget" in words:
        given["budget"] = words["budget"].text  # 0.05 as it was written, not as a float
    if "tags" in words:
        words["tags"].items("tags")
    for name in given:
        # One after the other, for the line of the one at fault.
        with at(words[name]):
            workflow_options(**{"name": "any", name: given[name]})
    return workflow_options(**given)


def _inputs(words: Mapping[str, Node]) -> tuple[WorkflowInput, ...]:
    if "inputs" not in words:
        return ()
    members = words["inputs"].members("inputs")
    return tuple(_input(name, node) for name, node in members.items())


def _input(name: str, node: Node) -> WorkflowInput:
    what = f"input '{name}'"
    kind, many, schema = _type(node, what, frozenset({"default"}))
    default = None
    if node.is_map and "default" in node.value:
        default = Constant.of(node.value["default"].plain())
    return WorkflowInput(name, kind, many, schema, default is None, default)


def _type(node: Node, what: str, others: frozenset[str] = frozenset()) -> Type:
    """What `audio`, `[image]`, `json`, `{json: SCHEMA}` or `{type: audio}` says."""
    if not node.is_map:
        return _kind(node, what)
    words = node.members(what, _TYPE | others)
    if ("type" in words) is ("json" in words):
        node.refuse(f"{what} needs either 'type', such as image or [image], or 'json', a schema")
    if "type" in words:
        return _kind(words["type"], what)
    return "json", False, _schema(words["json"], what)


def _kind(node: Node, what: str) -> Type:
    if node.is_list and len(node.value) != 1:
        node.refuse(f"{what} must be of one kind, such as [image]")
    (inner,) = node.value if node.is_list else [node]
    if inner.value not in KINDS:
        inner.refuse(
            f"{what} must be of a kind ({', '.join(KINDS)}), a list of one, or {{json: ..}}"
        )
    if node.is_list and inner.value in ("json", "event"):
        node.refuse(f"{what} cannot be [{inner.value}]; a JSON list is {{json: array}}")
    kind = cast("Kind", inner.value)
    return kind, node.is_list, {} if kind == "json" else None


def _schema(node: Node, what: str) -> Mapping[str, Any]:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if isinstance(node.value, str):
        if node.value not in _JSON_TYPES:
            node.refuse(f"{what}: a type of JSON is one of {', '.join(_JSON_TYPES)}")
        return {"type": node.value}
    node.members(f"the schema of {what}")
    schema: dict[str, Any] = node.plain()
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        node.refuse(f"{what} has no JSON schema: {error.message}")
    return schema


def _triggers(words: Mapping[str, Node]) -> tuple[FilterInterface, ...]:
    if "triggers" not in words:
        return ()
    return tuple(_trigger(node) for node in words["triggers"].items("triggers"))


def _trigger(node: Node) -> FilterInterface:
    conditions = dict(node.members("a trigger"))
    ends = {name: conditions.pop(name, None) for name in ("prefix", "suffix")}
    found = {
        name: {} if end is None else {k: v.value for k, v in end.members(name).items()}
        for name, end in ends.items()
    }
    exact = {name: value.value for name, value in conditions.items()}
    with at(node):
        return filter_of(exact, found["prefix"], found["suffix"]).interface()
