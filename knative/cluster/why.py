"""Why something is not ready, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dsfn.functions.values import dataclass
from dsfn.knative.cluster.evidence import Evidence, PodEvidence
from dsfn.knative.cluster.objects import name_of
from dsfn.knative.cluster.readiness import condition, why_not
from dsfn.knative.cluster.refusals import one_line

# Of a waiting container: the image was tried more than once, or never will be.
_GIVEN_UP = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_PULLING = ("ErrImagePull", "RegistryUnavailable", *_GIVEN_UP)
_NOT_MADE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
# Of a revision: Knative has asked the registry, which has no such image.
_NO_IMAGE = "ContainerMissing"
# A container that has ended so often after its start will do so again.
_RESTARTS = 2


@dataclass(frozen=True, slots=True)
class Reason:
    """`text` begins in lower case and has no full stop. `is_final`: waiting will not help; `log`:
    the last lines of what it is about."""

    text: str
    is_final: bool = False
    log: str = ""

    @property
    def with_last_words(self) -> str:
        """The text, and the last line of the log."""
        line = one_line(self.log.rpartition("\n")[2])
        return f"{self.text}; it last printed: {line}" if line else self.text


def explain(evidence: Evidence) -> Reason:
    """The reason that is nearest to the cause: a container's, a pod's, then what Knative says."""
    if (broker := evidence.without) is not None:
        # Knative says nothing of a Trigger whose Broker is not there, or what it said before.
        return Reason(
            f"there is no {name_of(broker)} there; `dsfn platform install --namespace"
            f" {broker['metadata']['namespace']}` brings it back",
            is_final=True,
        )
    reasons = [reason for pod in evidence.pods for reason in _of_pod(pod)]
    if reasons:
        return max(reasons, key=lambda reason: reason.is_final)
    revision = evidence.revision
    told = (why_not(revision) if revision else "") or why_not(evidence.document)
    if not told:
        return Reason("nothing has been said of it yet")
    cause = condition(revision, "ContainerHealthy").get("reason") if revision else None
    return Reason(_lowered(told), is_final=cause == _NO_IMAGE)


def _of_pod(evidence: PodEvidence) -> Iterator[Reason]:
    pod = evidence.document
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("reason") == "Unschedulable":
        yield Reason(f"no node takes its pod ({one_line(scheduled.get('message'))})")
    statuses = (pod.get("status") or {}).get("containerStatuses", [])
    for status in statuses:
        if status["name"] == evidence.container and (reason := _of_container(status, evidence)):
            yield reason
    # Knative's own container asks the function's whether it is ready.
    if statuses and all("running" in each["state"] for each in statuses):
        if not all(each["ready"] for each in statuses):
            yield _of_silence(evidence)


def _of_container(status: dict[str, Any], evidence: PodEvidence) -> Reason | None:
    waiting: dict[str, Any] = status.get("state", {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), one_line(waiting.get("message", ""))
    if reason in _PULLING:
        told = f" ({message})" if message else ""
        return Reason(
            f"the image {status['image']} cannot be pulled{told}", is_final=reason in _GIVEN_UP
        )
    if reason in _NOT_MADE:
        return Reason(f"its container cannot be made ({message})")
    ended = _ended(status)
    return _of_crash(status, ended, evidence.log) if ended else None


def _ended(status: dict[str, Any]) -> dict[str, Any]:
    """How the container ended last, if it has."""
    for when in ("state", "lastState"):
        if found := status.get(when, {}).get("terminated"):
            return dict(found)
    return {}


def _of_crash(status: dict[str, Any], ended: dict[str, Any], log: str) -> Reason:
    times = status.get("restartCount", 0)
    how = (
        "out of memory" if ended.get("reason") == "OOMKilled" else f"exit code {ended['exitCode']}"
    )
    again = f", {times} times" if times > 1 else ""
    return Reason(
        f"its container ends after its start ({how}{again})",
        is_final=times >= _RESTARTS,
        log=log,
    )


def _of_silence(evidence: PodEvidence) -> Reason:
    failed = [each for each in evidence.events if "probe failed" in each]
    told = f" ({one_line(failed[-1])})" if failed else ""
    return Reason(f"its container runs and does not get ready{told}", log=evidence.log)


def _lowered(text: str) -> str:
    """Made to go on a sentence; names and abbreviations stay as they are."""
    return text[0].lower() + text[1:] if text[1:2].islower() else text
