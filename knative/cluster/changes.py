"""What applying manifests would change, told by the API server without doing it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dsfn.functions.errors import NotFound
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.words import Manifest

# What the API server keeps of its own about an object.
_ITS_OWN = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
# Notes of who changed something last, and how many changes there were: they follow from the change.
_NOTES = (
    "serving.knative.dev/creator",
    "serving.knative.dev/lastModifier",
    "deprecated.daemonset.template.generation",
)
_HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class Change:
    """A value of an object. `before` or `after` is None where it is not there."""

    path: str
    before: object
    after: object

    @property
    def line(self) -> str:
        """For people: "spec.replicas: 1 -> 2"."""
        before, after = (
            "nothing" if value is None else json.dumps(value, ensure_ascii=False)
            for value in (self.before, self.after)
        )
        return f"{self.path}: {before} -> {after}"

    def undone(self) -> Change:
        """The change that this one takes back."""
        return Change(self.path, self.after, self.before)


@dataclass(frozen=True, slots=True)
class Planned:
    """A manifest, and what applying it would change; `is_new`: there is no such object yet."""

    manifest: Manifest
    is_new: bool
    changes: tuple[Change, ...] = ()

    @property
    def does_something(self) -> bool:
        """Whether applying it changes anything."""
        return self.is_new or bool(self.changes)


def plan(objects: Objects, manifests: Iterable[Manifest]) -> tuple[Planned, ...]:
    """What applying these would change. Raises `ClusterError`."""
    return tuple(_planned(objects, manifest) for manifest in manifests)


def changes_between(live: Manifest, after: Manifest) -> tuple[Change, ...]:
    """The values in which two states of an object differ, but for what the API server adds. What
    is in a Secret is not shown."""
    found = _differences("", _stated(live), _stated(after))
    return tuple(_hidden(each) if after["kind"] == "Secret" else each for each in found)


def _planned(objects: Objects, manifest: Manifest) -> Planned:
    live = objects.read(manifest)
    try:
        after = objects.apply(manifest, dry_run=True)
    except NotFound:
        # Its namespace is not there yet: the plan makes it.
        return Planned(manifest, is_new=True)
    if live is None:
        return Planned(manifest, is_new=True)
    return Planned(manifest, is_new=False, changes=changes_between(live, after))


def _stated(document: Manifest) -> Manifest:
    metadata: dict[str, Any] = {
        key: value for key, value in document["metadata"].items() if key not in _ITS_OWN
    }
    annotations = metadata.pop("annotations", {})
    kept = {key: value for key, value in annotations.items() if key not in _NOTES}
    rest = {key: value for key, value in document.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": {**metadata, **({"annotations": kept} if kept else {})}}


def _differences(path: str, before: object, after: object) -> Iterator[Change]:
    if before == after:
        return
    old, new = _parts(before), _parts(after)
    if old is None or new is None:
        yield Change(path, before, after)
        return
    for key in [*old, *(key for key in new if key not in old)]:
        yield from _differences(f"{path}.{key}" if path else key, old.get(key), new.get(key))


def _hidden(change: Change) -> Change:
    shown = (None if value is None else _HIDDEN for value in (change.before, change.after))
    return Change(change.path, *shown)


def _parts(value: object) -> dict[str, object] | None:
    """The parts of a document or of a list of documents, by their names where they have some, else
    by their numbers; None for a value without parts."""
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        names = [str(part.get("name", "")) for part in value]
        are_names = all(names) and len(set(names)) == len(names)
        return dict(zip(names if are_names else map(str, range(len(value))), value, strict=True))
    return None
