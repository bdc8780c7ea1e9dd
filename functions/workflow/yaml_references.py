"""References in a workflow's YAML: `$photos`, `$classify.label`, `$rows[0]["first name"]`."""

from __future__ import annotations

import json
import re

from dsfn.functions.workflow.dag import Expr, Field
from dsfn.functions.workflow.yaml_nodes import Node

_REFERENCE = re.compile(r"\$(?P<name>[A-Za-z_][A-Za-z0-9_-]*)(?P<fields>.*)", re.DOTALL)
_FIELD = re.compile(
    r"""\.(?P<word>[A-Za-z_][A-Za-z0-9_-]*)|\[(?P<index>[0-9]{1,9})\]|\[(?P<text>"(?:[^"\\]|\\.)*")\]"""
)


def name_in(node: Node) -> str | None:
    """What a scalar refers to; None when it is a constant.

    Raises `DefinitionError` for a text that begins with a $ and is no reference.
    """
    if not isinstance(node.value, str) or not node.value.startswith("$"):
        return None
    if node.value.startswith("$$"):
        return None
    found = _REFERENCE.fullmatch(node.value)
    if found is None:
        node.refuse(
            f"{node.value!r} is no reference, such as $step.member; a text that begins with $ is"
            " written $$"
        )
    return found["name"]


def fields(node: Node, expr: Expr) -> Expr:
    """The expression with the members taken that follow the name in a reference."""
    found = _REFERENCE.fullmatch(node.value)
    assert found is not None
    rest, position = found["fields"], 0
    while position < len(rest):
        field = _FIELD.match(rest, position)
        if field is None:
            node.refuse(
                f"{rest[position:]!r} in {node.value!r} takes no member; write .name, [0] or"
                ' ["any name"]'
            )
        expr = Field(expr, _key(node, field))
        position = field.end()
    return expr


def _key(node: Node, field: re.Match[str]) -> str | int:
    if field["index"] is not None:
        return int(field["index"])
    if field["word"] is not None:
        return field["word"]
    try:
        return str(json.loads(field["text"]))
    except ValueError:
        node.refuse(f"{field['text']} is no text in quotes")
