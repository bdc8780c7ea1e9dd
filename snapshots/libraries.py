"""The libraries that a state was captured with: their distributions' names and versions.

Objects of other versions' classes may unpickle and then compute something else. A lookup of
a distribution takes a few tenths of a millisecond, as much as a whole restore: so a snapshot's
libraries are compared when it is verified and before a node uses it for the first time, when
nobody waits, and not by each restore.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, DistributionFinder, packages_distributions

from dsfn.functions.errors import SnapshotError

# The format covers the first, and a manifest has a key of its own for the second.
_NOT_RECORDED = frozenset({"dsfn", "torch"})


def loaded_libraries() -> dict[str, str]:
    """The installed distributions that a loaded module is from, and their versions."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    names = {
        _normalised(distribution)
        for module, distributions in packages_distributions().items()
        if module in loaded
        for distribution in distributions
    }
    found = {name: _version(name, sys.path) for name in sorted(names - _NOT_RECORDED)}
    return {name: version for name, version in found.items() if version is not None}


def installed_libraries(path: Sequence[str]) -> dict[str, str]:
    """Every distribution that an interpreter with this `sys.path` finds, and its version."""
    found: dict[str, str] = {}
    for distribution in Distribution.discover(path=list(path)):
        if distribution.name:  # what is half uninstalled has none
            found.setdefault(_normalised(distribution.name), str(distribution.version))
    return found


def check_libraries(recorded: Mapping[str, str], path: Sequence[str] | None = None) -> None:
    """Raises `SnapshotError` that names the library which is of another version here, or for
    an interpreter with the `sys.path` that is given."""
    for name, then in recorded.items():
        now = _version(name, sys.path if path is None else path)
        if now != then:
            has = "does not have it" if now is None else f"has {now}"
            raise SnapshotError(
                f"The snapshot was captured with {name} {then}, and this environment {has}."
            )


def _version(name: str, path: Sequence[str]) -> str | None:
    """The version of the distribution that comes first on `path`."""
    context = DistributionFinder.Context(name=name, path=list(path))
    found = next(iter(Distribution.discover(context=context)), None) if name else None
    return None if found is None else found.version


def _normalised(name: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()
