"""Mutation testing of modules of `billing`: `python tests/billing/mutants.py money rates.rate`.

The mutants are mutmut's. Its own runner wants packages that are folders, not links, and skips
decorated functions; here each mutant is a fork of a process that has everything imported but the
project, so that a mutant costs little more than its tests. Words of errors are not mutated, and of
a text only one mutant is made. Exits with 1 where a mutant survives.
"""

from __future__ import annotations

import argparse
import difflib
import gc
import importlib.abc
import importlib.util
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import libcst
import pytest
from hypothesis import Phase, settings
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60
AT_ONCE = 4
OPTIONS = (
    *("-x", "-p", "no:cacheprovider", "-k", "not postgres"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
# What can make a number wrong without an exception.
NUMBERS = (
    libcst.BaseNumber,
    libcst.ComparisonTarget,
    libcst.BinaryOperation,
    libcst.BooleanOperation,
    libcst.AugAssign,
    libcst.UnaryOperation,
)
LEDGER_TESTS = ("postings", "open_leases", "ledger_format", "ledger")
BILL_TESTS = ("pricing", "credit", "statement")
# The tests that are about a module, the quick ones first; "test_" goes before each.
TESTS: dict[str, tuple[str, ...]] = {
    "money": ("money",),
    "splitting": ("splitting",),
    "periods": ("periods",),
    "ranges": ("ranges",),
    "rates.rate": ("rate_book", "rates"),
    "rates.book": ("rate_book", "rates"),
    "rates.card": ("rates", "rate_book"),
    "service": ("pricing", "run_cost", "statement"),
    "adjustments": BILL_TESTS,
    "lines": BILL_TESTS,
    "statement": BILL_TESTS,
    "credit": ("credit",),
    "canonical": ("ledger_format",),
    "chain": ("ledger_format", "verify"),
    "accounts": LEDGER_TESTS,
    "entry": LEDGER_TESTS,
    "leases": LEDGER_TESTS,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one thing changed."""

    module: str
    tree: libcst.Module
    node: libcst.CSTNode
    changed: libcst.CSTNode

    @property
    def code(self) -> str:
        """The module's text with the change."""
        changed: libcst.Module = self.tree.deep_replace(self.node, self.changed)
        return str(changed.code)

    @property
    def change(self) -> str:
        """The change as a diff."""
        lines = self.tree.code.splitlines(), self.code.splitlines()
        return "\n".join(list(difflib.unified_diff(*lines, lineterm="", n=0))[2:])


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Has a mutant imported in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != f"dsfn.billing.{self._mutant.module}":
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def get_source(self, fullname: str) -> str:
        return self._mutant.code


class _Visitor(libcst.CSTVisitor):  # type: ignore[misc, unused-ignore]
    """Finds what mutmut's operators change, outside of annotations, decorators and `raise`."""

    def __init__(self, *, numbers: bool) -> None:
        self._kinds = NUMBERS if numbers else (libcst.CSTNode,)
        self.found: list[tuple[libcst.CSTNode, libcst.CSTNode]] = []

    def on_visit(self, node: libcst.CSTNode) -> bool:
        if isinstance(
            node, libcst.Annotation | libcst.Decorator | libcst.Raise | libcst.ImportFrom
        ):
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind) and isinstance(node, self._kinds):
                changed = list(operator(node))
                of_text = isinstance(node, libcst.SimpleString)
                self.found += [(node, each) for each in (changed[:1] if of_text else changed)]
        return True


def mutants_of(module: str, *, numbers: bool) -> Iterator[Mutant]:
    """The mutants of a module, all or those of `NUMBERS`."""
    source = (ROOT / "billing" / f"{module.replace('.', '/')}.py").read_text()
    tree, visitor = libcst.parse_module(source), _Visitor(numbers=numbers)
    tree.visit(visitor)
    return (Mutant(module, tree, node, changed) for node, changed in visitor.found)


def main() -> int:
    """Reports on each module; the exit code of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="module", choices=[*TESTS, []])
    parser.add_argument("--numbers", action="store_true", help="numbers and operators alone")
    given = parser.parse_args()
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    settings.register_profile(
        "mutants", max_examples=20, phases=phases, database=None, derandomize=True
    )
    settings.load_profile("mutants")
    survived = 0
    for module in given.modules or TESTS:
        if _run(module) != 0:
            raise SystemExit(f"The tests about {module} fail without a mutant.")
        _forget_the_project()
        mutants = list(mutants_of(module, numbers=given.numbers))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = list(pool.map(_outcome, mutants))
        left = [m.change for m, code in zip(mutants, outcomes, strict=True) if code == 0]
        late = outcomes.count(None)
        survived += len(left)
        sys.stdout.write("".join(f"{change}\n" for change in left))
        counts = f"{len(mutants)} mutants, {len(left)} survived, {late} ran out of time"
        sys.stdout.write(f"== {module}: {counts}\n")
        sys.stdout.flush()
    return min(survived, 1)


def _outcome(mutant: Mutant) -> int | None:
    """The exit code of the tests with a mutant, 0 if it survives; None where they hang."""
    child = multiprocessing.get_context("fork").Process(target=_try, args=(mutant,))
    child.start()
    child.join(TIMEOUT_S)
    if child.is_alive():
        child.kill()
        child.join()
        return None
    return child.exitcode


def _try(mutant: Mutant) -> None:
    sys.meta_path.insert(0, _Finder(mutant))
    os._exit(_run(mutant.module))


def _run(module: str) -> int:
    nothing = os.open(os.devnull, os.O_WRONLY)
    said = os.dup(1), os.dup(2)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    files = [str(ROOT / f"tests/billing/test_{name}.py") for name in TESTS[module]]
    code = int(pytest.main([*OPTIONS, *files]))
    os.dup2(said[0], 1)
    os.dup2(said[1], 2)
    for each in (nothing, *said):
        os.close(each)
    return code


def _forget_the_project() -> None:
    """What is imported of third parties stays, for all forks."""
    for name, module in list(sys.modules.items()):
        if name != "__main__" and _is_ours(module):
            del sys.modules[name]
    gc.collect()
    gc.freeze()


def _is_ours(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(ROOT)


if __name__ == "__main__":
    raise SystemExit(main())
