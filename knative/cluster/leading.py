"""Whether a replica of the control service leads, as its Lease says."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from dsfn.functions.errors import NotReady
from dsfn.knative.cluster.objects import Objects, is_about
from dsfn.knative.cluster.refusals import one_line
from dsfn.knative.cluster.waiting import Progress
from dsfn.knative.manifests.accounts import CONTROL, CONTROL_NAME
from dsfn.knative.manifests.words import COMPONENT, Manifest

# A leader renews every few seconds; the clocks here and there may differ.
_RENEWED_WITHIN_S = 60.0
_LOOK_S = 1.0


def wait_led(objects: Objects, namespace: str, deadline_s: float, progress: Progress) -> None:
    """Returns once a replica leads. Raises `NotReady` when none does within `deadline_s`."""
    end_s, told = time.monotonic() + deadline_s, ""
    while reason := why_nobody_leads(objects, namespace):
        if time.monotonic() >= end_s:
            about = is_about(lease_of(namespace))
            raise NotReady(f"{about} is not held: {reason}.", object=about, reason=reason, log="")
        if reason != told:
            progress(reason)
            told = reason
        time.sleep(_LOOK_S)


def why_nobody_leads(objects: Objects, namespace: str) -> str:
    """Why no replica leads, with what one has printed; "" when one does that is not about to go.
    Raises `ClusterError`."""
    query = {"labelSelector": f"{COMPONENT}={CONTROL}"}
    pods = list(objects.list("v1", "Pod", namespace, query))
    going = {each["metadata"]["name"] for each in pods if "deletionTimestamp" in each["metadata"]}
    lease = objects.read(lease_of(namespace))
    if _is_held(lease):
        assert lease is not None
        holder = lease["spec"]["holderIdentity"]
        return f"{holder} leads, and is about to go" if holder in going else ""
    for pod in pods:
        if said := objects.last_lines(namespace, pod["metadata"]["name"], CONTROL, 1):
            said = one_line(said)
            return f"no replica of the control service leads; one last printed: {said}"
    return "no replica of the control service leads yet"


def _is_held(lease: Manifest | None) -> bool:
    spec = (lease or {}).get("spec") or {}
    if not spec.get("holderIdentity"):
        return False
    age = datetime.now(UTC) - datetime.fromisoformat(spec["renewTime"])
    return abs(age.total_seconds()) < _RENEWED_WITHIN_S


def lease_of(namespace: str) -> Manifest:
    """The Lease's name."""
    metadata = {"name": CONTROL_NAME, "namespace": namespace}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
