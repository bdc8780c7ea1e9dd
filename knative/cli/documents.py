"""The JSON documents that commands about a cluster print."""

from __future__ import annotations

from typing import TypedDict


class ChangeDocument(TypedDict):
    """A value of an object. `before` or `after` is null where it is not there."""

    path: str
    before: object
    after: object


class ObjectChangesDocument(TypedDict):
    """`action`: "create", "change", "delete" or "none"."""

    object: str
    action: str
    changes: list[ChangeDocument]


class PlanDocument(TypedDict):
    """What `install` and `upgrade` have done, or would do."""

    context: str
    namespace: str
    dry_run: bool
    objects: list[ObjectChangesDocument]
    features_off: list[str]


class ObjectStateDocument(TypedDict):
    """`state`: "ready", "starting", "missing" or "changed"; `reason` null where it is ready."""

    object: str
    state: str
    reason: str | None


class PlatformDocument(TypedDict):
    """How the platform is."""

    context: str
    address: str
    namespace: str
    objects: list[ObjectStateDocument]
    functions: list[str]
    features_off: list[str]


class RemovedDocument(TypedDict):
    """What `uninstall` has deleted, or would delete; `others`: what dsfn has not made, and goes
    with its namespace."""

    context: str
    namespace: str
    dry_run: bool
    deleted: list[str]
    others: list[str]
