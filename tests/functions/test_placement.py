"""Where replicas may run: checked when it is written, and not lost on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

import dsfn
from dsfn.functions.errors import DefinitionError
from dsfn.functions.options import Options

PLACEMENT = dsfn.Placement(
    node_selector={"gpu.example/kind": "h100"},
    priority_class="interactive",
    spread=("topology.kubernetes.io/zone",),
    gpu_resource="nvidia.com/mig-1g.10gb",
)


def test_a_placement_survives_its_document() -> None:
    options = Options("sort", gpu=1, placement=PLACEMENT)
    assert Options.from_document(json.loads(json.dumps(options.to_document()))) == options


def test_options_without_a_placement_keep_their_digest() -> None:
    assert "placement" not in Options("sort").to_document()
    assert Options("sort").digest != Options("sort", placement=PLACEMENT).digest


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"node_selector": {"a b": "c"}}, "'a b' is not a label's key"),
        ({"node_selector": {"zone": "-"}}, "'-' is not a label's value"),
        ({"node_selector": {"zone": 1}}, "1 is not a label's value"),
        ({"priority_class": "Very High"}, "'Very High' is not the name of a PriorityClass"),
        ({"spread": ("",)}, "'' is not a label's key"),
        ({"gpu_resource": "gpu"}, "'gpu' is not the name of a resource, DOMAIN/NAME"),
        ({"node_selector": {f"l{i}": "x" for i in range(33)}}, "at most 32 labels"),
        ({"spread": ("a", "b", "c", "d", "e")}, "4 in spread"),
    ],
)
def test_a_placement_that_no_cluster_takes_is_refused(
    given: Mapping[str, Any], sentence: str
) -> None:
    with pytest.raises(DefinitionError) as raised:
        dsfn.Placement(**given)
    assert sentence in raised.value.message


def test_a_placement_is_given_with_the_other_options() -> None:
    @dsfn.function(gpu=1, placement=PLACEMENT)
    def sort(numbers: list[int]) -> list[int]:
        return sorted(numbers)

    assert sort.options.placement == PLACEMENT
    with pytest.raises(DefinitionError, match="placement must be of type Placement, not dict"):
        dsfn.function(placement={"spread": "zone"})(sorted_copy)  # type: ignore[call-overload]


def sorted_copy(numbers: list[int]) -> list[int]:
    return sorted(numbers)
