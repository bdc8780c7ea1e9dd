"""Objects in a cluster: read, applied, listed, deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any

from dsfn.functions.errors import ClusterError, ClusterRefused, MissingKinds, NotFound
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.connection import APPLY, MERGE, Cluster
from dsfn.knative.manifests.words import Manifest

FIELD_MANAGER = "dsfn"
_PAGE = "500"
# What a kubelet gives for the output of a container that it has cleared away.
_NO_LOG = "unable to retrieve container logs for "
# Who has the kinds that are not in every cluster, and where to get them.
_OWNERS = {
    "serving.knative.dev": "Knative Serving",
    "eventing.knative.dev": "Knative Eventing",
}
_HOW_TO_GET_THEM = "https://knative.dev/docs/install/"


@dataclass(frozen=True, slots=True)
class Resource:
    """How a kind is called in addresses."""

    plural: str
    namespaced: bool


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a cluster. What is not there raises `NotFound`, all else `ClusterError`."""

    cluster: Cluster
    _resources: dict[str, dict[str, Resource]] = field(default_factory=dict, repr=False)

    def read(self, manifest: Manifest) -> Manifest | None:
        """The object that this names as it is now, None when there is none."""
        try:
            found: Manifest = self.cluster.document(self.path(manifest))
        except NotFound:
            return None
        return found

    def apply(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Makes the object be as the manifest says, and returns what it is then; with `dry_run`
        what it would be.

        Fields that the manifest does not name stay as they are, those that an earlier one named
        go. Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
        """
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        path = self.path(manifest)
        try:
            answer = self.cluster.request("PATCH", path, query, manifest, APPLY)
        except ClusterRefused as error:
            about, reason = is_about(manifest), error.fields["reason"]
            raise ClusterRefused(
                f"{about} is refused: {reason}.", object=about, reason=reason
            ) from error
        applied: Manifest = json.loads(answer)
        return applied

    def change(self, manifest: Manifest, fields: Manifest) -> None:
        """Changes these fields of the object that this names, and leaves the others."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        self.cluster.request("PATCH", self.path(manifest), query, fields, MERGE)

    def delete(self, manifest: Manifest) -> bool:
        """Deletes the object, after what it owns; whether there was one."""
        try:
            self.cluster.request(
                "DELETE", self.path(manifest), body={"propagationPolicy": "Foreground"}
            )
        except NotFound:
            return False
        return True

    def list(
        self, api_version: str, kind: str, namespace: str, query: Mapping[str, str]
    ) -> Iterator[Manifest]:
        """Objects of a kind in a namespace. `query`: `labelSelector`, `fieldSelector`."""
        resource = self._resource(api_version, kind)
        path = f"{_root(api_version)}/namespaces/{namespace}/{resource.plural}"
        asked = {**query, "limit": _PAGE}
        while True:
            document = self.cluster.document(path, asked)
            for item in document["items"]:
                # The items of a list do not say what they are.
                yield {"apiVersion": api_version, "kind": kind, **item}
            following = document["metadata"].get("continue")
            if not following:
                return
            asked["continue"] = following

    def last_lines(self, namespace: str, pod: str, container: str, lines: int) -> str:
        """The end of what a container has printed, of its last run when it was started again; ""
        when it has not, or it may not be read."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        query = {"container": container, "tailLines": str(lines)}
        for previous in ("true", "false"):
            with suppress(ClusterError, NotFound):
                content = self.cluster.request("GET", path, {**query, "previous": previous})
                text = content.decode(errors="replace").rstrip()
                if not text.startswith(_NO_LOG):
                    return text
        return ""

    def require(self, api_version: str, kind: str) -> None:
        """Raises `MissingKinds` where the cluster does not know this kind."""
        self._resource(api_version, kind)

    def path(self, manifest: Manifest) -> str:
        """The address of the object that this names. Raises `MissingKinds`."""
        metadata = manifest["metadata"]
        resource = self._resource(manifest["apiVersion"], manifest["kind"])
        within = f"/namespaces/{metadata['namespace']}" if resource.namespaced else ""
        return f"{_root(manifest['apiVersion'])}{within}/{resource.plural}/{metadata['name']}"

    def _resource(self, api_version: str, kind: str) -> Resource:
        if api_version not in self._resources:
            self._resources[api_version] = self._discover(api_version)
        found = self._resources[api_version].get(kind)
        if found is None:
            raise self._missing(api_version, kind)
        return found

    def _discover(self, api_version: str) -> dict[str, Resource]:
        try:
            document: Any = self.cluster.document(_root(api_version))
        except NotFound:
            return {}
        return {
            each["kind"]: Resource(each["name"], each["namespaced"])
            for each in document["resources"]
            if "/" not in each["name"]
        }

    def _missing(self, api_version: str, kind: str) -> MissingKinds:
        owner = _OWNERS.get(api_version.partition("/")[0])
        advice = f"; install {owner}: {_HOW_TO_GET_THEM}" if owner else ""
        return MissingKinds(
            f"The cluster of context '{self.cluster.context}' knows no {kind} of"
            f" {api_version}{advice}.",
            api_version=api_version,
            kind=kind,
        )


def name_of(manifest: Manifest) -> str:
    """An object's kind and name, for people: "Service hello"."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def is_about(manifest: Manifest) -> str:
    """An object's kind, name and namespace, for the start of a sentence."""
    namespace = manifest["metadata"].get("namespace")
    return f"{name_of(manifest)} in namespace {namespace}" if namespace else name_of(manifest)


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
