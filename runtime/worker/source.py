"""An author's bundle, imported into this process."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import field
from itertools import chain, takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

from dsfn.functions.errors import DefinitionError, NotFound, SourceError
from dsfn.functions.function import Function
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.workflow import Workflow
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
    """The functions of an imported bundle by their names, all their targets, and the workflows
    by their names."""

    functions: Mapping[str, Function[..., Any]]
    classes: Classes
    workflows: Mapping[str, Workflow[..., Any]] = field(default_factory=dict)

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
    functions: dict[str, Function[..., Any]] = {}
    workflows: dict[str, Workflow[..., Any]] = {}
    for found in _own(module, bundle):
        name = found.options.name
        if name in functions or name in workflows:
            raise DefinitionError(
                f"{entry} has two functions or workflows of the name {name!r}.", function=name
            )
        if isinstance(found, Function):
            functions[name] = found
        else:
            workflows[name] = found
    if not functions and not workflows:
        raise DefinitionError(f"{entry} has no functions. {_HOW_TO}")
    return Source(functions, Classes(_targets(bundle, newest)), workflows)


def _own(module: ModuleType, bundle: Path) -> Iterator[Function[..., Any] | Workflow[..., Any]]:
    """What a module has to deploy that was written in the bundle, each once."""
    values = [v for v in vars(module).values() if isinstance(v, Function | Workflow)]
    for found in dict.fromkeys(values):
        if _is_in(bundle, sys.modules.get(found.target.__module__)):
            yield found


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
