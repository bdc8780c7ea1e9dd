"""The Lease by which one replica of the control service leads: one object of the API server's.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1/
"""

from __future__ import annotations

from datetime import UTC, datetime

from dsfn.functions.errors import NotFound
from dsfn.functions.values import dataclass
from dsfn.knative.cluster.connection import Cluster, open_cluster
from dsfn.knative.manifests.accounts import CONTROL, CONTROL_NAME
from dsfn.knative.manifests.words import Manifest, labels

LEASE_S = 15
# Where the leader is called.
URL_ANNOTATION = "dsfn.dev/url"
_API = "coordination.k8s.io/v1"
_ANSWER_S = 3.0


@dataclass(frozen=True, slots=True)
class Held:
    """The Lease as it was read. `holder`: the replica that has it, "" for none; `url`: its own;
    `version`: another one after each change."""

    holder: str
    url: str
    version: str
    transitions: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The Lease of a platform. Its methods block, and raise `ClusterError`: `ClusterRefused` where
    another replica was faster."""

    cluster: Cluster
    namespace: str

    @classmethod
    def open(cls, namespace: str) -> Lease:
        """The Lease in a namespace. An API server that is slow is no longer waited for than a
        leader can afford. Raises `UsageError`."""
        return cls(
            open_cluster(answer_s=_ANSWER_S, tries_again=False, is_of_control=True), namespace
        )

    def read(self) -> Held | None:
        """As it is now, None where nobody has ever held it."""
        try:
            document = self.cluster.document(f"{self._path}/{CONTROL_NAME}")
        except NotFound:
            return None
        spec, metadata = document.get("spec") or {}, document["metadata"]
        return Held(
            holder=spec.get("holderIdentity") or "",
            url=(metadata.get("annotations") or {}).get(URL_ANNOTATION, ""),
            version=metadata["resourceVersion"],
            transitions=spec.get("leaseTransitions") or 0,
        )

    def hold(self, held: Held | None, holder: str, url: str) -> None:
        """Takes it, or renews it, if it is still as it was read."""
        if held is None:
            self.cluster.request("POST", self._path, body=self._document(holder, url, 1))
            return
        transitions = held.transitions + (holder != held.holder)
        document = self._document(holder, url, transitions)
        document["metadata"]["resourceVersion"] = held.version
        self.cluster.request("PUT", f"{self._path}/{CONTROL_NAME}", body=document)

    def release(self, held: Held) -> None:
        """Lets go of it, if it is still as it was read."""
        self.hold(held, "", "")

    @property
    def _path(self) -> str:
        return f"/apis/{_API}/namespaces/{self.namespace}/leases"

    def _document(self, holder: str, url: str, transitions: int) -> Manifest:
        return {
            "apiVersion": _API,
            "kind": "Lease",
            "metadata": {
                "name": CONTROL_NAME,
                "namespace": self.namespace,
                "labels": labels(CONTROL),
                "annotations": {URL_ANNOTATION: url},
            },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": LEASE_S,
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "leaseTransitions": transitions,
            },
        }
