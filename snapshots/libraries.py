"""The libraries that a state was captured with: their distributions' names and versions.

Objects of other versions' classes may unpickle and then compute something else. A lookup of
a distribution takes a few tenths of a millisecond, as much as a whole restore: so a snapshot's
libraries are compared when it is verified and before a node uses it for the first time, when
nobody waits, and not by each restore.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from dsfn.functions.errors import SnapshotError

# The format covers the first, and a manifest has a key of its own for the second.
_NOT_RECORDED = frozenset({"dsfn", "torch"})


def loaded_libraries() -> dict[str, str]:
    """The installed distributions that a loaded module is from, and their versions."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    found = {
        _normalised(distribution)
        for module, distributions in packages_distributions().items()
        if module in loaded
        for distribution in distributions
    }
    return dict(_versions(sorted(found - _NOT_RECORDED)))


def check_libraries(recorded: Mapping[str, str]) -> None:
    """Raises `SnapshotError` that names the library which is of another version here."""
    here = dict(_versions(recorded))
    for name, then in recorded.items():
        now = here.get(name)
        if now != then:
            has = "does not have it" if now is None else f"has {now}"
            raise SnapshotError(
                f"The snapshot was captured with {name} {then}, and this process {has}."
            )


def _versions(names: Mapping[str, str] | list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            yield name, version(name)
        except (PackageNotFoundError, ValueError):  # ValueError: no name of a distribution
            continue


def _normalised(name: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()
