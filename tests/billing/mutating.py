"""The mutants of a module: mutmut's operators on each place in it, one at a time."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libcst
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parents[2]
# What can make a number wrong without an exception.
NUMBERS = (
    libcst.BaseNumber,
    libcst.ComparisonTarget,
    libcst.BinaryOperation,
    libcst.BooleanOperation,
    libcst.AugAssign,
    libcst.UnaryOperation,
)
# What says nothing when it runs, and words of errors.
_LEFT_ALONE = (libcst.Annotation, libcst.Decorator, libcst.Raise, libcst.ImportFrom)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one thing changed, within a function or method, or with "" in none."""

    function: str
    tree: libcst.Module
    node: libcst.CSTNode
    changed: libcst.CSTNode

    @property
    def code(self) -> str:
        """The module's text with the change."""
        changed: Any = self.tree.deep_replace(self.node, self.changed)
        return str(changed.code)

    @property
    def change(self) -> str:
        """The change as a diff."""
        lines = self.tree.code.splitlines(), self.code.splitlines()
        return "\n".join(list(difflib.unified_diff(*lines, lineterm="", n=0))[2:])


def path_of(module: str) -> Path:
    """The file of a module of `billing`, such as "rates.rate"."""
    return ROOT / "billing" / f"{module.replace('.', '/')}.py"


def mutants_of(module: str, *, numbers: bool) -> Iterator[Mutant]:
    """The mutants of a module, all or those of `NUMBERS`. Of a text only one is made."""
    tree, visitor = libcst.parse_module(path_of(module).read_text()), _Visitor(numbers=numbers)
    tree.visit(visitor)
    return (Mutant(function, tree, *change) for function, *change in visitor.found)


class _Visitor(libcst.CSTVisitor):  # type: ignore[misc, unused-ignore]
    """Finds what mutmut's operators change."""

    def __init__(self, *, numbers: bool) -> None:
        self._kinds = NUMBERS if numbers else (libcst.CSTNode,)
        self._classes: list[libcst.ClassDef] = []
        self._function: libcst.FunctionDef | None = None
        self.found: list[tuple[str, libcst.CSTNode, libcst.CSTNode]] = []

    def on_visit(self, node: libcst.CSTNode) -> bool:
        if isinstance(node, _LEFT_ALONE):
            return False
        if isinstance(node, libcst.ClassDef):
            self._classes.append(node)
        if isinstance(node, libcst.FunctionDef) and self._function is None:
            self._function = node
        for kind, operator in mutation_operators:
            if isinstance(node, kind) and isinstance(node, self._kinds):
                changed = list(operator(node))
                of_text = isinstance(node, libcst.SimpleString)
                self.found += [(self._name, node, x) for x in (changed[:1] if of_text else changed)]
        return True

    def on_leave(self, original_node: libcst.CSTNode) -> None:
        if original_node is self._function:
            self._function = None
        if self._classes and original_node is self._classes[-1]:
            self._classes.pop()

    @property
    def _name(self) -> str:
        """The name of the outermost function around a place, with its classes."""
        if self._function is None:
            return ""
        around: list[libcst.ClassDef | libcst.FunctionDef] = [*self._classes, self._function]
        return ".".join(each.name.value for each in around)
