"""Which libraries a revision's workers should be born with.

A wrong guess costs time alone: what is missing a worker imports for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsfn.functions.interface import Kind
from dsfn.runtime.deploy.imports import imported_names
from dsfn.runtime.libraries import LIBRARIES
from dsfn.runtime.model import Revision

_OF_SNAPSHOT = frozenset({"torch", "numpy", "safetensors"})
_OF_KIND: Mapping[Kind, frozenset[str]] = {
    "image": frozenset({"PIL.Image"}),
    "audio": frozenset({"numpy", "soundfile"}),
    "tensor": frozenset({"numpy", "safetensors"}),
}
_OF_PLAIN = frozenset({"type", "items", "additionalProperties", "anyOf"})


def libraries_of(revision: Revision, bundle: Path) -> tuple[str, ...]:
    """Those that its snapshot and its types need, and that its source names in an import."""
    interface = revision.interface
    kinds = {interface.result.kind, *(each.kind for each in interface.parameters)}
    named = frozenset[str]().union(*(imported_names(path) for path in bundle.rglob("*.py")))
    needed = frozenset[str]().union(*(_OF_KIND.get(kind, frozenset()) for kind in kinds))
    schemas = (interface.result.schema, *(each.schema for each in interface.parameters))
    if not all(map(_is_plain, schemas)):
        needed |= {"pydantic"}
    if revision.snapshot is not None:
        needed |= _OF_SNAPSHOT
    return tuple(each for each in LIBRARIES if each in needed or each.partition(".")[0] in named)


def _is_plain(schema: Mapping[str, Any] | None) -> bool:
    """Whether a type's JSON schema says no more than those of the plain types, which are checked
    without pydantic."""
    if schema is None:
        return True
    inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("anyOf", ())]
    plain = schema.keys() <= _OF_PLAIN
    return plain and all(_is_plain(each) for each in inner if isinstance(each, Mapping))
