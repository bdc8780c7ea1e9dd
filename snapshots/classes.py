"""How code of the user's own module is named when that name means something else there.

After decoration, the module's global `Embed` is a wrapper and the class behind it
can no longer be found by its name, so pickling it by reference fails. `Classes`
knows these targets and names them, and what is nested in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from types import FunctionType

from dsfn.functions.errors import SnapshotError
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Classes:
    """The targets (classes and functions) behind wrappers, by the name the user gave them."""

    targets: Mapping[str, Callable[..., object]] = field(default_factory=dict)

    def name_of(self, value: object) -> str | None:
        """The name that `resolve` finds `value` by, or None: it is not behind a wrapper."""
        if not isinstance(value, type | FunctionType):
            return None
        for name, target in self.targets.items():
            if value is target:
                return name
            qualname, own = value.__qualname__, getattr(target, "__qualname__", name)
            if value.__module__ == target.__module__ and qualname.startswith(own + "."):
                nested = name + qualname[len(own) :]
                if self._find(nested) is value:
                    return nested
        return None

    def resolve(self, name: str) -> object:
        """The class or function that `name_of` named so. Raises `SnapshotError`."""
        found = self._find(name)
        if found is None:
            raise SnapshotError(f"The snapshot needs {name!r}, which the code does not define.")
        return found

    def _find(self, name: str) -> object | None:
        head, *rest = name.split(".")
        found: object | None = self.targets.get(head)
        for part in rest:
            found = getattr(found, part, None)
        return found
