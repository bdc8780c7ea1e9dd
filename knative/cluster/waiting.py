"""Waiting until objects are ready, and saying why one is not."""

from __future__ import annotations

import time
from collections.abc import Callable

from dsfn.functions.errors import NotFound, NotReady
from dsfn.knative.cluster.evidence import gather
from dsfn.knative.cluster.objects import Objects, is_about
from dsfn.knative.cluster.readiness import is_ready, why_not
from dsfn.knative.cluster.why import Reason, explain
from dsfn.knative.manifests.words import Manifest

_LOOK_S = 0.3
# What goes on is asked about less often: it takes several requests.
_ASK_S = 1.5

Progress = Callable[[str], None]


def wait_ready(
    objects: Objects, manifest: Manifest, deadline_s: float, progress: Progress
) -> Manifest:
    """The object once it is ready. `progress` is told what is awaited, each time that changes.

    Raises `NotReady` when it is not within `deadline_s`, or earlier when it will not be;
    `NotFound` when it is gone.
    """
    end = time.monotonic() + deadline_s
    asked, told = 0.0, ""
    while True:
        document = objects.read(manifest)
        if document is None:
            raise NotFound(f"{is_about(manifest)} is gone.", kind=manifest["kind"])
        if is_ready(document):
            return document
        now = time.monotonic()
        if now - asked >= _ASK_S or now >= end:
            asked, reason = now, explain(gather(objects, document))
            if reason.is_final or now >= end:
                raise not_ready(document, reason)
            if reason.text != told:
                told = reason.text
                progress(f"{is_about(document)}: {told}")
        time.sleep(_LOOK_S)


def wait_gone(objects: Objects, manifest: Manifest, deadline_s: float, progress: Progress) -> None:
    """Returns once the object is gone. Raises `NotReady` when it is not within `deadline_s`."""
    end, told = time.monotonic() + deadline_s, ""
    while (document := objects.read(manifest)) is not None:
        waiting = why_not(document) or "something that it owns is still there"
        if time.monotonic() >= end:
            raise NotReady(
                f"{is_about(manifest)} does not go: {waiting}.",
                object=is_about(manifest),
                reason=waiting,
                log="",
            )
        if waiting != told:
            told = waiting
            progress(f"{is_about(manifest)}: {told}")
        time.sleep(_LOOK_S)


def not_ready(document: Manifest, reason: Reason) -> NotReady:
    """The reason as an error."""
    return NotReady(
        f"{is_about(document)} is not ready: {reason.text}.",
        object=is_about(document),
        reason=reason.text,
        log=reason.log,
    )
