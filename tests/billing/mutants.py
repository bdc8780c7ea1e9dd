"""Mutation testing of modules of `billing`: `python tests/billing/mutants.py money rates.rate`.

The mutants are mutmut's. Its own runner wants packages that are folders, not links, and skips
decorated functions; here each mutant is a fork of a process that has the tests imported. Only those
run that call the function which is changed, the quick ones first. Exits with 1 where a mutant
survives.
"""

from __future__ import annotations

import argparse
import gc
import importlib.abc
import importlib.util
import multiprocessing
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import TextIO

import pytest
from hypothesis import Phase, settings
from mutating import ROOT, Mutant, mutants_of, path_of

# The tests of a mutant may take so many times as long as without it, and a little.
PATIENCE = 5
LITTLE_S = 10
OPTIONS = (
    *("-p", "no:cacheprovider", "--tb=no", "-k", "not postgres"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
BILL_TESTS = ("pricing", "statement", "months")
# The tests that are about a module; "test_" goes before each.
TESTS: dict[str, tuple[str, ...]] = {
    "money": ("money", "rates", "rate_book"),
    "splitting": ("splitting",),
    "periods": ("periods", "ranges"),
    "ranges": ("ranges",),
    "rates.rate": ("rate_book", "rates"),
    "rates.book": ("rate_book", "rates"),
    "rates.card": ("rates", "rate_book"),
    "service": ("pricing", "run_cost", "statement"),
    "adjustments": BILL_TESTS,
    "lines": BILL_TESTS,
    "statement": BILL_TESTS,
    "expectation": ("expectation",),
    "usage_sums": ("statement", "ledger", "months"),
    "run_cost": ("run_cost",),
    "credit": ("credit",),
    "invoice": ("credit", "months"),
    "months": ("months",),
    "canonical": ("ledger_format",),
    "chain": ("ledger_format", "chain_check"),
    "accounts": ("entries",),
    "entry": ("entries", "ledger_format"),
    "leases": ("open_leases",),
    "rounding": ("paddings",),
    "paddings": ("paddings",),
    "padding_sums": ("paddings",),
    "rollups": ("ledger", "statement", "verify"),
    "chain_check": ("chain_check",),
    "checkpoint_check": ("checkpoint_check",),
    "totals_check": ("verify", "money_check"),
    "money_check": ("money_check",),
    "document_check": ("months",),
    "posting_document": ("spool",),
    "spool": ("spool", "spooled_ledger"),
    "spool_damage": ("spool", "spooled_ledger"),
    "spool_records": ("spool",),
    "spooled_ledger": ("spooled_ledger",),
}


def main() -> int:
    """Reports on each module; the exit code of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="module", choices=[*TESTS, []])
    parser.add_argument("--numbers", action="store_true", help="numbers and operators alone")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th alone")
    given = parser.parse_args()
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    settings.register_profile("mutants", phases=phases, database=None, derandomize=True)
    settings.load_profile("mutants")
    report = _silent()
    survived = 0
    for module in given.modules or TESTS:
        mutants = list(mutants_of(module, numbers=given.numbers))[:: given.every]
        trial = _Trial(module, mutants, report)
        pytest.main([*OPTIONS, *trial.files], plugins=[trial])
        survived += trial.survived
    return min(survived, 1)


def _silent() -> TextIO:
    """What pytest and the tests write is lost from here on; the returned file is not."""
    report = os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    return report


class _Trial:
    """Runs, as pytest's loop, the tests about a module: once as it is, then for each mutant."""

    def __init__(self, module: str, mutants: list[Mutant], report: TextIO) -> None:
        self._module = module
        self._mutants = mutants
        self._report = report
        self._callers: dict[str, set[pytest.Item]] = defaultdict(set)
        self._seconds: dict[pytest.Item, float] = {}
        self._failed = False
        self.survived = 0

    @property
    def files(self) -> list[str]:
        """The files of the tests."""
        return [str(ROOT / f"tests/billing/test_{name}.py") for name in TESTS[self._module]]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes that a test failed."""
        self._failed |= report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Takes the place of pytest's own."""
        for item in session.items:
            self._watch(item)
        if self._failed or not session.items:
            self._say(f"== {self._module}: its tests fail without a mutant")
            self.survived = len(self._mutants)
            return True
        functions = _functions(path_of(self._module))
        gc.freeze()
        late = 0
        for mutant in self._mutants:
            outcome = self._outcome(mutant, functions)
            late += outcome is None
            if outcome == 0:
                self.survived += 1
                self._say(f"{mutant.function or 'in no function'}\n{mutant.change}")
        counts = f"{len(self._mutants)} mutants, {self.survived} survived, {late} ran out of time"
        self._say(f"== {self._module}: {counts}")
        return True

    def _watch(self, item: pytest.Item) -> None:
        """Runs a test and notes how long it takes and which functions of the module it calls."""
        end = f"/{path_of(self._module).relative_to(ROOT)}"

        def called(frame: FrameType, _event: str, _argument: object) -> None:
            if frame.f_code.co_filename.endswith(end):
                self._callers[frame.f_code.co_qualname].add(item)

        started_s = time.monotonic()
        threading.settrace(called)
        sys.settrace(called)
        _run(item)
        sys.settrace(None)
        threading.settrace(None)
        self._seconds[item] = time.monotonic() - started_s

    def _outcome(self, mutant: Mutant, functions: dict[str, list[FunctionType]]) -> int | None:
        """0 if a mutant survives its tests; None where they hang."""
        items = self._callers[mutant.function] if mutant.function else set(self._seconds)
        if not items:
            return 0
        limit_s = LITTLE_S + PATIENCE * sum(self._seconds[item] for item in items)
        quick_first = sorted(items, key=lambda item: self._seconds[item])
        if mutant.function:
            outcome = _forked(limit_s, self._try, mutant, functions[mutant.function], quick_first)
            if outcome != 0:
                return outcome
        # What the module kept of the first run can hide a mutant: once more without that.
        return _forked(limit_s, self._try_anew, mutant, sorted({str(each.path) for each in items}))

    def _try(self, mutant: Mutant, functions: list[FunctionType], items: list[pytest.Item]) -> None:
        """The tests with the code of a function in the place of the code that it had."""
        compiled = compile(
            mutant.code, functions[0].__code__.co_filename, "exec", dont_inherit=True
        )
        code = next(each for each in _codes(compiled) if each.co_qualname == mutant.function)
        for function in functions:
            function.__code__ = code
        for item in items:
            _run(item)
            if self._failed:
                os._exit(1)
        os._exit(0)

    def _try_anew(self, mutant: Mutant, files: list[str]) -> None:
        """The tests with all of the project imported again."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name not in ("__main__", "mutating") and Path(file or "/").is_relative_to(ROOT):
                del sys.modules[name]
        sys.meta_path.insert(0, _Finder(self._module, mutant))
        os._exit(int(pytest.main([*OPTIONS, "-x", *files])))

    def _say(self, text: str) -> None:
        self._report.write(f"{text}\n")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Has a mutant imported in place of its module."""

    def __init__(self, module: str, mutant: Mutant) -> None:
        self._name = f"dsfn.billing.{module}"
        self._mutant = mutant

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def get_source(self, fullname: str) -> str:
        return self._mutant.code


def _forked(limit_s: float, trying: Callable[..., None], *arguments: object) -> int | None:
    """The exit code of something in a process of its own, None where it takes too long."""
    child = multiprocessing.get_context("fork").Process(target=trying, args=arguments)
    child.start()
    child.join(limit_s)
    if child.is_alive():
        child.kill()
        child.join()
        return None
    return child.exitcode


def _run(item: pytest.Item) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)


def _functions(path: Path) -> dict[str, list[FunctionType]]:
    """The functions of a file that is imported, whatever they are wrapped in."""
    end = f"/{path.relative_to(ROOT)}"
    found: dict[str, list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename.endswith(end):
            found[each.__code__.co_qualname].append(each)
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those within."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


if __name__ == "__main__":
    raise SystemExit(main())
