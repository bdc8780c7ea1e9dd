"""What is deployed on a node: functions, their revisions, traffic and subscriptions."""

from __future__ import annotations

from dsfn.runtime.registry.registry import Registry
from dsfn.runtime.registry.values import (
    FunctionRecord,
    HistoryEntry,
    Origin,
    Subscription,
    TargetKind,
)

__all__ = [
    "FunctionRecord",
    "HistoryEntry",
    "Origin",
    "Registry",
    "Subscription",
    "TargetKind",
]
