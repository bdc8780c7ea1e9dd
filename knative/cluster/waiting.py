"""Waiting until objects are ready, and saying why one is not."""

from __future__ import annotations

import time
from collections.abc import Callable

from dsfn.functions.errors import ClusterUnreachable, NotFound, NotReady
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.evidence import gather
from dsfn.knative.cluster.objects import Objects, is_about
from dsfn.knative.cluster.readiness import is_ready, why_not
from dsfn.knative.cluster.why import Reason, explain
from dsfn.knative.manifests.words import Manifest

_LOOK_S = 0.1
# How often it is asked why what does not change is not ready: that takes five requests and more.
_ASK_S = 1.0

Progress = Callable[[str], None]


def wait_ready(
    objects: Objects, manifest: Manifest, deadline_s: float, progress: Progress
) -> Manifest:
    """The object once it is ready. `progress` is told what is awaited, each time that changes.

    Raises `NotReady` when it is not within `deadline_s`, or earlier when it will not be;
    `NotFound` when it is gone; `ClusterUnreachable` when the API server is away at the end.
    """
    waiting = _Waiting(time.monotonic() + deadline_s, progress)
    while (ready := _if_ready(objects, manifest, waiting)) is None:
        time.sleep(_LOOK_S)
    return ready


def wait_gone(objects: Objects, manifest: Manifest, deadline_s: float, progress: Progress) -> None:
    """Returns once the object is gone. Raises `NotReady` when it is not within `deadline_s`."""
    waiting = _Waiting(time.monotonic() + deadline_s, progress)
    while (document := objects.read(manifest)) is not None:
        about = is_about(manifest)
        reason = why_not(document) or "something that it owns is still there"
        if waiting.is_over:
            sentence = f"{about} does not go: {reason}."
            raise NotReady(sentence, object=about, reason=reason, log="")
        waiting.tell(f"{about}: {reason}")
        time.sleep(_LOOK_S)


@dataclass(slots=True)
class _Waiting:
    """Until when, and what was told last."""

    end: float
    progress: Progress
    told: str = ""
    seen: Manifest | None = None
    asked_s: float = 0.0

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.end

    def asks_why(self, document: Manifest) -> bool:
        """Whether to ask why the object is not ready: it has changed, or was asked long ago."""
        now_s = time.monotonic()
        if document == self.seen and now_s < self.asked_s + _ASK_S:
            return False
        self.seen, self.asked_s = document, now_s
        return True

    def tell(self, sentence: str) -> None:
        """Tells it unless it was told last."""
        if sentence != self.told:
            self.told = sentence
            self.progress(sentence)


def _if_ready(objects: Objects, manifest: Manifest, waiting: _Waiting) -> Manifest | None:
    """The object if it is ready. Raises when the waiting is over."""
    is_last = waiting.is_over
    try:
        document = objects.read(manifest)
        if document is None:
            raise NotFound(f"{is_about(manifest)} is gone.", kind=manifest["kind"])
        if is_ready(document):
            return document
        if not (is_last or waiting.asks_why(document)):
            return None
        reason = explain(gather(objects, document))
    except ClusterUnreachable as error:
        # What runs in a cluster goes on while its API server is away.
        if is_last:
            raise
        waiting.tell(error.message.rstrip("."))
        return None
    if is_last or reason.is_final:
        raise _not_ready(document, reason)
    waiting.tell(f"{is_about(document)}: {reason.text}")
    return None


def _not_ready(document: Manifest, reason: Reason) -> NotReady:
    about = is_about(document)
    text = reason.with_last_words
    return NotReady(f"{about} is not ready: {text}.", object=about, reason=text, log=reason.log)
