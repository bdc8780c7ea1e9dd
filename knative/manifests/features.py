"""Feature flags of Knative Serving without which it refuses what dsfn asks of it.

Source: https://knative.dev/docs/serving/configuration/feature-flags/
"""

from __future__ import annotations

from collections.abc import Mapping

from dsfn.functions.values import dataclass
from dsfn.knative.manifests.words import Manifest

# The ConfigMap that holds them.
FEATURES_NAMESPACE = "knative-serving"
FEATURES_NAME = "config-features"
_ENABLED = "enabled"


@dataclass(frozen=True, slots=True)
class Feature:
    """`needed_for`: what cannot be had without it, as the end of a sentence; `usual`: its state
    where nobody has said anything."""

    flag: str
    needed_for: str
    usual: bool = False


AGENTS_FEATURE = Feature(
    "kubernetes.podspec-persistent-volume-claim", "the socket of the node's agent"
)
FEATURES = (
    Feature("kubernetes.podspec-volumes-emptydir", "functions with a snapshot", usual=True),
    AGENTS_FEATURE,
    Feature("kubernetes.podspec-nodeselector", "functions with a node_selector"),
    Feature("kubernetes.podspec-priorityclassname", "functions with a priority_class"),
    Feature("kubernetes.podspec-topologyspreadconstraints", "functions with a spread"),
)


def missing_features(data: Mapping[str, str]) -> tuple[Feature, ...]:
    """Those that are off, by the ConfigMap's data."""
    return tuple(each for each in FEATURES if not _is_on(each, data))


def enabling() -> Manifest:
    """What is to be applied to the ConfigMap: all of them, as what is applied once and not again
    is taken away."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": FEATURES_NAME, "namespace": FEATURES_NAMESPACE},
        "data": {feature.flag: _ENABLED for feature in FEATURES},
    }


def _is_on(feature: Feature, data: Mapping[str, str]) -> bool:
    said = data.get(feature.flag)
    return feature.usual if said is None else said.lower() == _ENABLED
