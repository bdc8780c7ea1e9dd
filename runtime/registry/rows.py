"""Registry values as rows and back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any, cast

from dsfn.functions.interface import FilterInterface, Interface
from dsfn.functions.options import Options
from dsfn.runtime.model import Revision, SnapshotRef
from dsfn.runtime.registry.values import Origin, Subscription, TargetKind

Row = tuple[Any, ...]


def revision_row(revision: Revision) -> dict[str, Any]:
    """The bindings of `insert_revision`."""
    return {
        "id": revision.id,
        "function": revision.function,
        "bundle_digest": revision.bundle_digest,
        "entry": revision.entry,
        "environment": revision.environment,
        "snapshot": snapshot_text(revision.snapshot),
        "snapshot_reason": revision.snapshot_reason,
        "created_at_us": revision.created_at_us,
        "options": _json(revision.options.to_document()),
        "interface": _json(revision.interface.to_document()),
        "modules": _json(list(revision.modules)),
    }


def revision_of(row: Row) -> Revision:
    """A revision from a row of `select_revisions`."""
    return Revision(
        id=row[0],
        function=row[1],
        bundle_digest=row[2],
        entry=row[3],
        environment=row[4],
        snapshot=None if row[5] is None else SnapshotRef.from_document(json.loads(row[5])),
        snapshot_reason=row[6],
        created_at_us=row[7],
        options=Options.from_document(json.loads(row[8])),
        interface=Interface.from_document(json.loads(row[9])),
        modules=tuple(json.loads(row[10])),
    )


def snapshot_text(snapshot: SnapshotRef | None) -> str | None:
    """What the column `snapshot` holds."""
    return None if snapshot is None else _json(asdict(snapshot))


def new_subscription(
    function: str, filter_: FilterInterface, origin: Origin, kind: TargetKind = "function"
) -> Subscription:
    """A subscription; its id follows from what it says, so that saying it twice is one."""
    said = [function, origin, _filter_document(filter_)]
    content = _json(said if kind == "function" else [kind, *said])
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Subscription(f"sub-{digest[:16]}", function, filter_, origin, kind)


def subscription_row(value: Subscription) -> dict[str, Any]:
    """The bindings of `insert_subscription`."""
    return {
        "id": value.id,
        "function": value.function,
        "filter": _json(_filter_document(value.filter)),
        "origin": value.origin,
    }


def subscription_of(row: Row, kind: TargetKind = "function") -> Subscription:
    """A subscription from a row of `select_subscriptions`."""
    return Subscription(
        row[0], row[1], FilterInterface(**json.loads(row[2])), cast("Origin", row[3]), kind
    )


def _filter_document(filter_: FilterInterface) -> dict[str, dict[str, str]]:
    return {
        "exact": dict(filter_.exact),
        "prefix": dict(filter_.prefix),
        "suffix": dict(filter_.suffix),
    }


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
