"""What commands about a cluster show: the same as lines and as documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dsfn.knative.cli.documents import (
    ChangeDocument,
    ObjectChangesDocument,
    PlanDocument,
    PlatformDocument,
    RemovedDocument,
)
from dsfn.knative.cluster.objects import is_about, name_of

if TYPE_CHECKING:
    from dsfn.knative.cluster.changes import Change, Planned
    from dsfn.knative.cluster.installation import Installation, Plan
    from dsfn.knative.manifests.words import Manifest

_SIGNS = {"create": "+", "change": "~"}


def plan_lines(plan: Plan) -> Iterator[str]:
    """What is to be done, a line for an object and one for each of its values that changes."""
    for planned in plan.applied:
        if planned.does_something:
            yield f"{_SIGNS[_action(planned)]} {name_of(planned.manifest)}"
            yield from (f"    {change.line}" for change in planned.changes)
    yield from (f"- {name_of(manifest)}" for manifest in plan.removed)


def plan_document(installation: Installation, plan: Plan, dry_run: bool) -> PlanDocument:
    """The same as a document, with what stays as it is."""
    applied = [_object_document(planned) for planned in plan.applied]
    removed: list[ObjectChangesDocument] = [
        {"object": name_of(manifest), "action": "delete", "changes": []}
        for manifest in plan.removed
    ]
    return {
        "context": installation.objects.cluster.context,
        "namespace": installation.namespace,
        "dry_run": dry_run,
        "objects": [*applied, *removed],
        "features_off": [each.flag for each in plan.off],
    }


def platform_document(installation: Installation) -> PlatformDocument:
    """How the platform is."""
    cluster = installation.objects.cluster
    return {
        "context": cluster.context,
        "address": cluster.address,
        "namespace": installation.namespace,
        "objects": [
            {"object": name_of(each.manifest), "state": each.state, "reason": each.reason or None}
            for each in installation.states()
        ],
        "functions": list(installation.functions()),
        "features_off": [each.flag for each in installation.features_off()],
    }


def removed_document(
    installation: Installation,
    manifests: Sequence[Manifest],
    others: Sequence[Manifest],
    dry_run: bool,
) -> RemovedDocument:
    """What was deleted, or would be; `others`: what was so with the namespaces."""
    return {
        "context": installation.objects.cluster.context,
        "namespace": installation.namespace,
        "dry_run": dry_run,
        "deleted": [name_of(manifest) for manifest in manifests],
        "others": [is_about(manifest) for manifest in others],
    }


def going_too(others: Sequence[Manifest], dry_run: bool) -> str:
    """Warns of what goes with the namespaces though dsfn has not made it."""
    goes = "would go" if dry_run else "goes"
    names = ", ".join(is_about(each) for each in others)
    return f"With its namespace {goes} what dsfn has not made: {names}."


def _object_document(planned: Planned) -> ObjectChangesDocument:
    return {
        "object": name_of(planned.manifest),
        "action": _action(planned),
        "changes": [_change_document(change) for change in planned.changes],
    }


def _action(planned: Planned) -> str:
    if planned.is_new:
        return "create"
    return "change" if planned.changes else "none"


def _change_document(change: Change) -> ChangeDocument:
    return {"path": change.path, "before": change.before, "after": change.after}
