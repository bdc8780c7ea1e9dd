"""The revisions that somebody serves: what calls, pools and replicas need to know of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from dsfn.runtime.model import Revision


class Revisions(Protocol):
    """All that are deployed on a node, or the one that is a pod's."""

    def route(self, function: str) -> Revision:
        """The revision that serves the next call of a function. Raises `NotFound`."""

    def revision(self, revision: str) -> Revision:
        """A revision by its id. Raises `NotFound`."""

    def find(self, revision: str) -> Revision | None:
        """A revision by its id, or None."""

    def serving(self) -> frozenset[str]:
        """The ids of the revisions that have traffic."""

    def pinned(self) -> Collection[str]:
        """The ids of those that are kept for somebody, whether they have traffic or not."""

    def quarantine(self, revision: str, reason: str) -> None:
        """Keeps replicas from a revision's snapshot. Raises `NotFound`, `StorageFull`."""
