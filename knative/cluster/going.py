"""Why something that was deleted is still there: its pods may take their grace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import ceil

from dsfn.functions.errors import MissingKinds, MissingRights
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.evidence import WITH_PODS, with_labels
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.cluster.readiness import why_there
from dsfn.knative.manifests.function import SERVING
from dsfn.knative.manifests.words import Manifest

_OF_SERVICE = "serving.knative.dev/service"
# So many are named.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Stay:
    """`reason` is the same for as long as nothing changes, and `at_the_end` says how things are
    now and what helps; neither has a full stop. `grace_s`: how long its pods may take."""

    reason: str
    at_the_end: str
    grace_s: float = 0.0


def stay_of(objects: Objects, document: Manifest) -> Stay:
    """Why an object that is being deleted is there. Raises `ClusterError`."""
    where = _where_its_pods_are(document)
    pods = _going(objects, *where) if where is not None else ()
    if where is None or not pods:
        reason = why_there(document)
        return Stay(reason, reason)
    ends_at = _ends_at(pods[0])
    left_s = (ends_at - datetime.now(UTC)).total_seconds()
    which = _named(pods)
    forced = _forced(pods, *where)
    if left_s > 0:
        return Stay(
            f"{which} may still answer calls, until {ends_at:%H:%M:%S} UTC at the latest",
            f"{which} may still answer calls, for {ceil(left_s)} s more at the latest; without"
            f" --timeout, or with a longer one, that is waited for, and {forced} breaks them off",
            left_s,
        )
    return Stay(
        f"{which} should have ended by {ends_at:%H:%M:%S} UTC",
        f"{which} should have ended {ceil(-left_s)} s ago; {forced} takes what is left away",
    )


def _where_its_pods_are(document: Manifest) -> tuple[str, dict[str, str]] | None:
    """The namespace and the query for them; None where it has none."""
    metadata = document["metadata"]
    if (document["apiVersion"], document["kind"]) == (SERVING, "Service"):
        return metadata["namespace"], with_labels({_OF_SERVICE: metadata["name"]})
    if document["kind"] in WITH_PODS:
        return metadata["namespace"], with_labels(document["spec"]["selector"]["matchLabels"])
    return (metadata["name"], {}) if document["kind"] == "Namespace" else None


def _going(objects: Objects, namespace: str, query: Mapping[str, str]) -> Sequence[Manifest]:
    """Those pods that were told to end, the last to be killed first; none where whoever asks may
    not know."""
    with suppress(MissingRights, MissingKinds):
        pods = objects.list("v1", "Pod", namespace, query)
        going = [each for each in pods if "deletionTimestamp" in each["metadata"]]
        return sorted(going, key=_ends_at, reverse=True)
    return ()


def _named(pods: Sequence[Manifest]) -> str:
    names = [each["metadata"]["name"] for each in pods]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"its {'pod' if len(names) == 1 else 'pods'} {', '.join(names[:_NAMED])}{more}"


def _forced(pods: Sequence[Manifest], namespace: str, query: Mapping[str, str]) -> str:
    which = " ".join(each["metadata"]["name"] for each in pods)
    if len(pods) > _NAMED:
        which = f"-l {query['labelSelector']}" if query else "--all"
    return f"`kubectl -n {namespace} delete pod {which} --force`"


def _ends_at(pod: Manifest) -> datetime:
    """When its grace is over: a pod's `deletionTimestamp` says that, and not when it was deleted.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
    """
    return datetime.fromisoformat(pod["metadata"]["deletionTimestamp"])
