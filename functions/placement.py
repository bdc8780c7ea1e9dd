"""`Placement`: where a function's replicas may run when there is more than one machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from dsfn.functions.errors import DefinitionError
from dsfn.functions.values import dataclass

MAX_LABELS = 32
MAX_SPREADS = 4
_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
# Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_KEY = re.compile(rf"({_DOMAIN}/)?{_NAME}")
_VALUE = re.compile(rf"({_NAME})?")
_CLASS = re.compile(_DOMAIN)
_RESOURCE = re.compile(rf"{_DOMAIN}/{_NAME}")


@dataclass(frozen=True, slots=True)
class Placement:
    """What a cluster is asked for; a single machine has no choice and reads none of it.

    `node_selector`: labels that a node must have. `priority_class`: the name of a PriorityClass,
    "" for the cluster's usual one. `spread`: keys of labels of nodes over whose values replicas
    are spread, such as "topology.kubernetes.io/zone". `gpu_resource`: the name under which the
    cluster has the GPUs that `gpu` counts, such as "nvidia.com/mig-1g.10gb"; "" for the usual
    one. Raises `DefinitionError`.
    """

    node_selector: Mapping[str, str] = field(default_factory=dict, hash=False)
    priority_class: str = ""
    spread: tuple[str, ...] = ()
    gpu_resource: str = ""

    def __post_init__(self) -> None:
        for key, value in self.node_selector.items():
            _require(_KEY, key, "a label's key")
            _require(_VALUE, value, "a label's value")
        for key in self.spread:
            _require(_KEY, key, "a label's key")
        if self.priority_class:
            _require(_CLASS, self.priority_class, "the name of a PriorityClass")
        if self.gpu_resource:
            _require(_RESOURCE, self.gpu_resource, "the name of a resource, DOMAIN/NAME")
        if len(self.node_selector) > MAX_LABELS or len(self.spread) > MAX_SPREADS:
            raise DefinitionError(
                f"A placement has at most {MAX_LABELS} labels in node_selector and"
                f" {MAX_SPREADS} in spread."
            )

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> Placement:
        """Reads back what `dataclasses.asdict` and JSON have made of this. Raises
        `DefinitionError`."""
        labels, spread = document.get("node_selector", {}), document.get("spread", ())
        if not isinstance(labels, Mapping) or not isinstance(spread, (list, tuple)):
            raise DefinitionError("This placement is not a document of one.")
        return cls(
            node_selector=dict(labels),
            priority_class=str(document.get("priority_class", "")),
            spread=tuple(spread),
            gpu_resource=str(document.get("gpu_resource", "")),
        )


def _require(pattern: re.Pattern[str], text: object, what: str) -> None:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise DefinitionError(f"placement: {text!r} is not {what}.")
