"""`@on`: which events call a function or start a workflow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from dsfn.functions.errors import DefinitionError
from dsfn.functions.event import Filter

T = TypeVar("T")

_TRIGGERS = "__dsfn_triggers__"
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,64}")


class Triggered:
    """What events may start."""

    triggers: tuple[Filter, ...]


def on(
    *,
    prefix: Mapping[str, str] | None = None,
    suffix: Mapping[str, str] | None = None,
    **exact: str,
) -> Callable[[T], T]:
    """Calls a function, or starts a workflow, for events whose attributes fit:
    `@on(type="photo.uploaded")`.

    Keywords are attributes that must be equal; `prefix` and `suffix` map attributes
    to how they begin and end. Goes above or below `@function` or `@workflow`, any number
    of times: one that fits is enough. Raises `DefinitionError`.
    """
    trigger = filter_of(exact, prefix or {}, suffix or {})

    def add(decorated: T) -> T:
        if isinstance(decorated, Triggered):
            decorated.triggers = (trigger, *decorated.triggers)
        else:
            setattr(decorated, _TRIGGERS, (trigger, *triggers_of(decorated)))
        return decorated

    return add


def filter_of(
    exact: Mapping[str, str], prefix: Mapping[str, str], suffix: Mapping[str, str]
) -> Filter:
    """A trigger's filter, checked. Raises `DefinitionError`."""
    trigger = Filter(dict(exact), dict(prefix), dict(suffix))
    conditions = [*trigger.exact.items(), *trigger.prefix.items(), *trigger.suffix.items()]
    if not conditions:
        raise DefinitionError("@on needs a condition, such as type='photo.uploaded'.")
    for attribute, text in conditions:
        if not isinstance(attribute, str) or not _ATTRIBUTE.fullmatch(attribute):
            raise DefinitionError(f"@on: {attribute!r} is not the name of an event's attribute.")
        if not isinstance(text, str) or not text:
            raise DefinitionError(f"@on: {attribute} must be a text that is not empty.")
    return trigger


def triggers_of(target: object) -> tuple[Filter, ...]:
    """What `@on` left on something that is about to be decorated."""
    triggers: tuple[Filter, ...] = vars(target).get(_TRIGGERS, ())
    return triggers
