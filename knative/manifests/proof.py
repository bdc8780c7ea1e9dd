"""The proof of a revision as its pods read it, see `dsfn.knative.pod.proving`: a variable that the
kubelet takes from a ConfigMap, so that no pod has to ask for it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from dsfn.knative.manifests.words import Manifest, labels
from dsfn.knative.pod.listening import PROVED

_KEY = "proved"
_PROOF, _SUFFIX = "proof", "-proved"


def proof(revision: Manifest) -> Manifest:
    """That a pod of this Knative revision has been ready once. It goes when the revision does."""
    metadata = revision["metadata"]
    owner = {
        "apiVersion": revision["apiVersion"],
        "kind": revision["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": _name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": labels(_PROOF),
            "ownerReferences": [owner],
        },
        "data": {_KEY: "true"},
    }


def proof_variable(revision_name: str) -> Manifest:
    """The variable of the pods of a Knative revision; they have none while it is not proved."""
    reference = {"name": _name(revision_name), "key": _KEY, "optional": True}
    return {"name": PROVED, "valueFrom": {"configMapKeyRef": reference}}


def name_of_proved(containers: Iterable[Manifest]) -> str | None:
    """The Knative revision whose proof containers read: None where they have no variable for one,
    "" where somebody has said otherwise what it is."""
    for variable in chain.from_iterable(each.get("env") or () for each in containers):
        if variable["name"] == PROVED:
            reference = (variable.get("valueFrom") or {}).get("configMapKeyRef") or {}
            return str(reference.get("name", "")).removesuffix(_SUFFIX)
    return None


def _name(revision_name: str) -> str:
    return f"{revision_name}{_SUFFIX}"
