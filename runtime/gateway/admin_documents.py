"""The documents in which the admin API shows functions and revisions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from dsfn.runtime.canaries.canary import Canary
from dsfn.runtime.clock import rfc3339
from dsfn.runtime.model import Revision
from dsfn.runtime.registry import FunctionRecord, HistoryEntry, Subscription
from dsfn.runtime.services import Services
from dsfn.runtime.serving import ReplicaView


def node_url(request: Request) -> str:
    """Where this node is called, from where this request came."""
    return str(request.base_url).removesuffix("/")


def function_url(request: Request, name: str) -> str | None:
    """Where to call a function: where it says itself, or from where this request came. None where
    it cannot be called."""
    services: Services = request.app.state.services
    return services.serving.url(name, f"{node_url(request)}/functions/{name}")


def workflow_url(request: Request, name: str) -> str:
    """Where to start a run of a workflow, from where this request came."""
    return f"{node_url(request)}/workflows/{name}"


def snapshot_document(revision: Revision) -> dict[str, Any] | None:
    """The snapshot of a revision, None when it has none."""
    snapshot = revision.snapshot
    if snapshot is None:
        return None
    return {
        "digest": snapshot.digest,
        "bytes": snapshot.bytes,
        "state": "quarantined" if snapshot.quarantined else "published",
        "golden": snapshot.golden,
        "first_use": snapshot.first_use,
        "workspace_bytes": snapshot.workspace_bytes,
        "streams": snapshot.streams,
        "precision": None if snapshot.precision is None else snapshot.precision.to_document(),
    }


def summary_document(request: Request, record: FunctionRecord) -> dict[str, Any]:
    """A function in a line."""
    services: Services = request.app.state.services
    return {
        "name": record.name,
        "revision": record.current.id,
        "state": services.serving.state(record.name).value,
        "replica_count": len(services.serving.replicas(record.name)),
        "url": function_url(request, record.name),
        "created_at": rfc3339(record.created_at_us),
    }


def function_document(request: Request, record: FunctionRecord) -> dict[str, Any]:
    """All about a function."""
    services: Services = request.app.state.services
    revision = record.current
    canary = services.canaries.store.find(record.name)
    subscriptions = (s for s in services.registry.subscriptions() if s.function == record.name)
    return {
        **summary_document(request, record),
        "description": revision.interface.description,
        "options": revision.options.to_document(),
        "interface": revision.interface.to_document(),
        "traffic": dict(record.traffic),
        "canary": None if canary is None else canary_document(canary),
        "snapshot": snapshot_document(revision),
        "snapshot_reason": revision.snapshot_reason,
        "replicas": [_replica_document(r) for r in services.serving.replicas(record.name)],
        "subscriptions": [subscription_document(s) for s in subscriptions],
    }


def canary_document(canary: Canary) -> dict[str, Any]:
    """A canary: its terms, and what came of it so far."""
    ended_at_us = canary.ended_at_us
    return {
        "revision": canary.revision,
        "baseline": canary.baseline,
        **asdict(canary.terms),
        "state": canary.state.value,
        "reason": canary.reason or None,
        "calls": canary.calls,
        "failed": canary.failed,
        "slow": canary.slow,
        "started_at": rfc3339(canary.started_at_us),
        "ended_at": None if ended_at_us is None else rfc3339(ended_at_us),
    }


def revision_document(entry: HistoryEntry) -> dict[str, Any]:
    """A revision in a line of a function's history."""
    return {
        "revision": entry.revision.id,
        "created_at": rfc3339(entry.revision.created_at_us),
        "traffic_percent": entry.traffic_percent,
        "snapshot": snapshot_document(entry.revision),
    }


def subscription_document(subscription: Subscription) -> dict[str, Any]:
    """A subscription and where it comes from."""
    return {
        "id": subscription.id,
        "kind": subscription.kind,
        "function": subscription.function,
        "exact": dict(subscription.filter.exact),
        "prefix": dict(subscription.filter.prefix),
        "suffix": dict(subscription.filter.suffix),
        "origin": subscription.origin,
    }


def _replica_document(view: ReplicaView) -> dict[str, Any]:
    return {
        "pid": view.pid,
        "pod": view.pod,
        "revision": view.revision,
        "state": view.state.value,
        "idle_s": None if view.idle_s is None else round(view.idle_s, 3),
    }
