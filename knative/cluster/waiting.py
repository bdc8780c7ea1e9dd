"""Waiting until objects are ready, and saying why one is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import field

from dsfn.functions.errors import ClusterUnreachable, NotFound, NotReady
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.evidence import gather
from dsfn.knative.cluster.going import stay_of
from dsfn.knative.cluster.objects import Objects, is_about
from dsfn.knative.cluster.readiness import is_ready
from dsfn.knative.cluster.why import Reason, explain
from dsfn.knative.manifests.words import Manifest

# How often it is looked.
AGAIN_S = 0.1
# How often it is asked why something is not ready, and how long after the start of the waiting for
# the first time: that takes five requests and more, of a cluster that has other things to do.
_ASK_S = 1.0
# How long the kubelet and Kubernetes' garbage collection have for what is left of killed pods.
_AFTER_GRACE_S = 30.0

Progress = Callable[[str], None]


@dataclass(slots=True)
class Awaited:
    """An object that is to become ready by `end_s`, monotonic. `progress` is told what is awaited,
    each time that changes."""

    objects: Objects
    manifest: Manifest
    end_s: float
    progress: Progress
    _told: str = ""
    _asked_s: float = field(default_factory=time.monotonic)

    def look(self) -> Manifest | None:
        """The object if it is ready.

        Raises `NotReady` when it is not at its end, or earlier when it will not be; `NotFound` when
        it is gone; `ClusterUnreachable` when the API server is away at the end.
        """
        is_last = time.monotonic() >= self.end_s
        try:
            document = self.objects.read(self.manifest)
            if document is None:
                raise NotFound(f"{is_about(self.manifest)} is gone.", kind=self.manifest["kind"])
            if is_ready(document):
                return document
            if not (is_last or self._asks_why()):
                return None
            reason = explain(gather(self.objects, document))
        except ClusterUnreachable as error:
            # What runs in a cluster goes on while its API server is away.
            if is_last:
                raise
            self._tell(error.message.rstrip("."))
            return None
        if is_last or reason.is_final:
            raise _not_ready(document, reason)
        self._tell(f"{is_about(document)}: {reason.text}")
        return None

    def _asks_why(self) -> bool:
        """Whether to ask why the object is not ready: it was asked long ago."""
        now_s = time.monotonic()
        if now_s < self._asked_s + _ASK_S:
            return False
        self._asked_s = now_s
        return True

    def _tell(self, sentence: str) -> None:
        """Tells it unless it was told last."""
        if sentence != self._told:
            self._told = sentence
            self.progress(sentence)


def wait_ready(
    objects: Objects, manifest: Manifest, deadline_s: float, progress: Progress
) -> Manifest:
    """The object once it is ready, within `deadline_s`. Raises what `Awaited.look` does."""
    awaited = Awaited(objects, manifest, time.monotonic() + deadline_s, progress)
    while (ready := awaited.look()) is None:
        time.sleep(AGAIN_S)
    return ready


def require_possible(objects: Objects, manifest: Manifest) -> None:
    """Raises `NotReady` for what waiting would not help, of an object that is to be there."""
    reason = explain(gather(objects, manifest))
    if reason.is_final:
        raise _not_ready(manifest, reason)


def wait_gone(
    objects: Objects,
    manifest: Manifest,
    deadline_s: float,
    progress: Progress,
    with_grace: bool = False,
) -> None:
    """Returns once the object is gone. Raises `NotReady` when it is not within `deadline_s`;
    `with_grace`: or later, for as long as pods of it may take to end."""
    about, told = is_about(manifest), ""
    document, seen_s = objects.read(manifest), time.monotonic()
    end_s, asked_s = seen_s + deadline_s, seen_s
    while document is not None:
        now_s = time.monotonic()
        # Most go at once, and nobody asks why they were there for a moment.
        if now_s >= min(end_s, asked_s + _ASK_S):
            stay, asked_s = stay_of(objects, document), now_s
            if with_grace and stay.grace_s:
                end_s = max(end_s, now_s + stay.grace_s + _AFTER_GRACE_S)
            if now_s >= end_s:
                sentence = f"{about} does not go: {stay.at_the_end}."
                raise NotReady(sentence, object=about, reason=stay.at_the_end, log="")
            if stay.reason != told:
                progress(f"{about}: {stay.reason}")
                told = stay.reason
        time.sleep(AGAIN_S)
        document = objects.read(manifest)


def _not_ready(document: Manifest, reason: Reason) -> NotReady:
    about = is_about(document)
    text = reason.with_last_words
    return NotReady(f"{about} is not ready: {text}.", object=about, reason=text, log=reason.log)
