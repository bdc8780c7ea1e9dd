"""Which revisions of a function get its calls."""

from __future__ import annotations

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.manifests.words import MAX_TAG, Manifest


@dataclass(frozen=True, slots=True)
class Target:
    """A share of the calls, in percent. `revision`: Knative's name of it, None for the newest one
    that is ready; `tag`: begins the host name under which it alone is called, "" for none."""

    percent: int
    revision: str | None = None
    tag: str = ""


ALL_TO_LATEST = (Target(100),)


def tag_of(revision: str) -> str:
    """The tag of a Knative revision that dsfn has named: it can be called by itself."""
    return f"r{revision.rpartition('-')[2]}"


def traffic_of(targets: tuple[Target, ...]) -> list[Manifest]:
    """`spec.traffic` of a Knative Service. Raises `UsageError`."""
    if any(target.percent < 0 for target in targets) or sum(t.percent for t in targets) != 100:
        raise UsageError("The shares of the traffic must add up to 100 percent.")
    tags = [target.tag for target in targets if target.tag]
    if len(set(tags)) < len(tags) or any(len(tag) > MAX_TAG for tag in tags):
        raise UsageError(f"Tags of traffic must differ, and have at most {MAX_TAG} characters.")
    return [entry_of(target) for target in targets]


def entry_of(target: Target) -> Manifest:
    """One entry of `spec.traffic`."""
    entry: Manifest = {"percent": target.percent, "latestRevision": target.revision is None}
    if target.revision is not None:
        entry["revisionName"] = target.revision
    if target.tag:
        entry["tag"] = target.tag
    return entry
