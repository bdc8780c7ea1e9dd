"""An author's bundle, imported into this process."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

from dsfn.functions.errors import DefinitionError, NotFound, SourceError
from dsfn.functions.function import Function
from dsfn.runtime.worker.faults import author_fault
from dsfn.runtime.worker.rehearsal import is_needed
from dsfn.snapshots.classes import Classes

_HOW_TO = """\
Write one like this:

    import dsfn

    @dsfn.function
    def hello(name: str) -> str:
        return f"Hello {name}"
"""


@dataclass(frozen=True, slots=True)
class Source:
    """The functions of an imported bundle by their names, and all their targets."""

    functions: Mapping[str, Function[..., Any]]
    classes: Classes

    def function(self, name: str) -> Function[..., Any]:
        """The function of that name. Raises `NotFound`."""
        if name not in self.functions:
            raise NotFound(f"The source has no function {name!r}.", kind="function", name=name)
        return self.functions[name]


def import_source(bundle: Path, entry: str, env: Mapping[str, str]) -> Source:
    """Makes this process the author's: environment, working directory, import path, code.

    Raises `SourceError` and `DefinitionError` with the author's traceback.
    """
    newest = next(reversed(sys.modules))
    sys.dont_write_bytecode = False  # compiled at the deploy, a bundle starts faster ever after
    os.environ.update(env)
    os.chdir(bundle)
    sys.path.insert(0, str(bundle))
    module = _import_entry(bundle, entry)
    found = [v for v in vars(module).values() if isinstance(v, Function)]
    functions: dict[str, Function[..., Any]] = {}
    for function in dict.fromkeys(found):
        if not _is_in(bundle, sys.modules.get(function.target.__module__)):
            continue
        name = function.options.name
        if name in functions:
            raise DefinitionError(f"{entry} has two functions of the name {name!r}.", function=name)
        functions[name] = function
    if not functions:
        raise DefinitionError(f"{entry} has no functions. {_HOW_TO}")
    return Source(functions, Classes(_targets(bundle, newest)))


def _import_entry(bundle: Path, entry: str) -> ModuleType:
    name = Path(entry).stem
    if is_needed(name):
        raise SourceError(
            f"{entry} has the name of the module {name!r}, which is needed; rename the file."
        )
    spec = importlib.util.spec_from_file_location(name, bundle / entry)
    assert spec is not None and spec.loader is not None, "an entry is a .py file"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # sys.exit() at import is the author's mistake as well
        raise author_fault(SourceError, f"Importing {entry}", error, bundle, None) from error
    return module


def _targets(bundle: Path, newest: str) -> dict[str, Any]:
    """What stands behind every wrapper in those of the bundle's modules that came after
    `newest`. Only they are looked at: a look at each of a thousand others unshares its page."""
    imported = takewhile(lambda item: item[0] != newest, reversed(sys.modules.items()))
    values = chain.from_iterable(vars(m).values() for _, m in imported if _is_in(bundle, m))
    return {f.options.name: f.target for f in values if isinstance(f, Function)}


def _is_in(bundle: Path, module: ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and file.startswith(f"{bundle}/")
