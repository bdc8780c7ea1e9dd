"""Whether an object is ready, by its own status."""

from __future__ import annotations

from typing import Any

from dsfn.knative.cluster.refusals import one_line
from dsfn.knative.manifests.words import Manifest


def is_ready(document: Manifest) -> bool:
    """Whether it does what it was last told to. Objects that only say something are at once."""
    status: dict[str, Any] = document.get("status") or {}
    if document["kind"] == "Deployment":
        wanted = document["spec"].get("replicas", 1)
        updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
        # Those that are not updated are still there for as long as they are among `replicas`.
        left = status.get("replicas", updated) - updated
        return is_current(document) and min(updated, available) >= wanted and left <= 0
    if document["kind"] == "DaemonSet":
        counts = (status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0))
        return is_current(document) and min(counts) >= status.get("desiredNumberScheduled", 0)
    if not _has_conditions(document):
        return True
    ready = condition(document, "Ready")
    return is_current(document) and ready.get("status") == "True"


def why_not(document: Manifest) -> str:
    """The object's own words, without a full stop; "" when it has none yet.

    What has failed comes before what is still awaited, and `Ready`, which sums up, last.
    """
    found: list[dict[str, Any]] = (document.get("status") or {}).get("conditions", [])
    order = [(c["type"] == "Ready", c["status"] != "False", c) for c in found]
    wrong = [c for *_, c in sorted(order, key=lambda each: each[:2]) if c["status"] != "True"]
    return next((one_line(c["message"]) for c in wrong if c.get("message")), "")


def why_there(document: Manifest) -> str:
    """What an object that is being deleted waits for, without a full stop. A namespace says that by
    conditions that hold."""
    found: list[dict[str, Any]] = (document.get("status") or {}).get("conditions", [])
    namespaces = (c for c in found if c["type"].startswith("Namespace") and c["status"] == "True")
    told = (one_line(c["message"]) for c in namespaces if c.get("message"))
    return next(told, "something that it owns is still there")


def condition(document: Manifest, type_: str) -> dict[str, Any]:
    """One of an object's conditions, empty when it is not there."""
    conditions = (document.get("status") or {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == type_), {})


def _has_conditions(document: Manifest) -> bool:
    return ".knative.dev/" in document["apiVersion"]


def is_current(document: Manifest) -> bool:
    """Whether its status is about what it says now, and not about what it said before."""
    seen = (document.get("status") or {}).get("observedGeneration", 0)
    return bool(seen == document["metadata"].get("generation"))
