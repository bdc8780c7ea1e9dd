"""The arguments of `@function`, checked and put into `Options`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dsfn.functions.durations import parse_seconds
from dsfn.functions.errors import DefinitionError
from dsfn.functions.options import MAX_CONCURRENCY, Options, check_tags, parse_bytes
from dsfn.functions.placement import Placement

# Of a node's and a pod's own settings.
_RESERVED = "DSFN_"
_COUNTS = ("concurrency", "min_replicas", "max_replicas", "retries", "max_queue", "max_batch")


def options_of(
    target_name: str,
    *,
    name: str | None = None,
    memory: int | str | None = None,
    env: Mapping[str, str] | None = None,
    requirements: Sequence[str] = (),
    tags: Sequence[str] = (),
    **others: Any,
) -> Options:
    values: dict[str, Any] = {"name": name if name is not None else kebab(target_name)}
    if memory is not None:
        values["memory_bytes"] = parse_bytes(_expect("memory", memory, (int, str)))
    if env is not None:
        pairs = _expect("env", env, (Mapping,)).items()
        values["env"] = tuple(sorted(_variable(*pair) for pair in pairs))
    if isinstance(requirements, str):
        raise DefinitionError("requirements must be a list of texts, such as ['httpx>=0.27'].")
    values["requirements"] = tuple(_text("requirements", r) for r in requirements)
    values["tags"] = tags_of(tags)
    for option, value in others.items():
        if option in ("park_after", "remove_after", "timeout", "backoff_delay"):
            values[f"{option}_s"] = parse_seconds(value, option)
        elif option == "gpu":
            values[option] = float(_expect(option, value, (int, float)))
        elif option in _COUNTS:
            values[option] = _expect(option, value, (int,))
        elif option == "backoff_policy":
            values[option] = _expect(option, value, (str,))
        elif option == "precision":
            values[option] = None if value is None else _expect(option, value, (str,))
        elif option == "placement":
            values[option] = None if value is None else _expect(option, value, (Placement,))
        else:
            raise DefinitionError(f"@function has no option '{option}'.")
    if values.get("max_batch", 1) > 1:
        # One batch runs while the calls of the next one gather.
        values.setdefault("concurrency", min(2 * values["max_batch"], MAX_CONCURRENCY))
    return Options(**values)


def tags_of(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags as they are kept. Raises `DefinitionError`."""
    if isinstance(tags, str):
        raise DefinitionError("tags must be a list of texts, such as ['speech', 'german'].")
    found = tuple(_text("tags", tag) for tag in tags)
    check_tags(found)
    return found


def kebab(name: str) -> str:
    """A Python name as a function's name: `ImageTagger2` -> `image-tagger2`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return re.sub(r"[-_]+", "-", parted).strip("-").lower()


def _expect(option: str, value: Any, kinds: tuple[type, ...]) -> Any:
    if not isinstance(value, kinds) or isinstance(value, bool):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise DefinitionError(f"{option} must be of type {wanted}, not {type(value).__name__}.")
    return value


def _variable(name: object, value: object) -> tuple[str, str]:
    name, value = _text("env", name), _text("env", value)
    if name.upper().startswith(_RESERVED):
        raise DefinitionError(f"env must not set {name}: names with {_RESERVED} are dsfn's own.")
    if not name or "=" in name or "\0" in name + value:
        raise DefinitionError(f"env cannot set {name!r}: no process can have such a variable.")
    return name, value


def _text(option: str, value: object) -> str:
    if not isinstance(value, str):
        raise DefinitionError(f"{option} must hold texts only, not {type(value).__name__}.")
    return value
