"""What a Python file imports and asks to have installed, read from its text, never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from dsfn.snapshots.regular import NotRegular, open_regular

_MAX_PARSED_BYTES = 1 << 20


def imported_names(path: Path) -> set[str]:
    """The top-level names of all absolute imports anywhere in the file."""
    names: set[str] = set()
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def declared_requirements(path: Path) -> set[str]:
    """The `requirements` that the file's `@function(...)` decorators spell out.

    They are needed to import the file, so they are read before it is. Lists that
    are computed are not seen here but once the file was imported.
    """
    nodes = list(_nodes(path))
    constants = {
        target.id: node.value
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return {
        text
        for node in nodes
        if isinstance(node, ast.Call) and _name(node.func) == "function"
        for keyword in node.keywords
        if keyword.arg == "requirements"
        for text in _texts(keyword.value, constants)
    }


def _nodes(path: Path) -> Iterator[ast.AST]:
    """Every node of the file; none when it does not parse, which its import will report, is so
    large that it must be data, or is no file at all."""
    try:
        with open_regular(path, through_links=True) as file:
            source = file.read(_MAX_PARSED_BYTES + 1)
        if len(source) > _MAX_PARSED_BYTES:
            return iter(())
        tree = ast.parse(source)
    except (NotRegular, SyntaxError, ValueError, RecursionError, MemoryError):
        return iter(())
    return ast.walk(tree)


def _name(func: ast.expr) -> str:
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else ""


def _texts(value: ast.expr, constants: dict[str, ast.expr]) -> list[str]:
    if isinstance(value, ast.Name):
        value = constants.get(value.id, value)
    elements = value.elts if isinstance(value, ast.List | ast.Tuple | ast.Set) else [value]
    return [e.value for e in elements if isinstance(e, ast.Constant) and isinstance(e.value, str)]
