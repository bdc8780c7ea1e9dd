from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from dsfn.functions.tensor import Tensor
from dsfn.snapshots.golden import Golden
from dsfn.snapshots.loss import Loss, measure


def as_json(value: object) -> Golden:
    return Golden("application/json", json.dumps(value).encode())


def as_tensor(array: object) -> Golden:
    tensor = Tensor.of(array)
    return Golden(tensor.content_type, tensor.encoded())


def stream(*items: object) -> Golden:
    lines = "".join(f"data: {json.dumps(item)}\n\n" for item in items)
    return Golden("text/event-stream", lines.encode())


def test_the_loss_of_a_tensor_is_that_of_its_elements() -> None:
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(7, 5)).astype("f4")
    found = reference + generator.normal(scale=0.01, size=(7, 5)).astype("f4")
    loss = measure(as_tensor(reference), as_tensor(found))
    exact = found.astype("f8") - reference
    norm = np.linalg.norm(exact) / np.linalg.norm(reference.astype("f8"))
    assert loss.relative_error == pytest.approx(norm, rel=1e-9)
    assert loss.largest_difference == pytest.approx(np.abs(exact).max(), rel=1e-9)
    assert (loss.equal_share, loss.differs) == (None, None)


def test_the_loss_of_json_is_that_of_its_numbers_and_of_all_else() -> None:
    reference = {
        "scores": [3.0, 4.0],
        "best": {"label": "cat", "id": 7},
        "sure": True,
        "more": None,
    }
    found = {"scores": [3.0, 4.5], "best": {"label": "dog", "id": 7}, "sure": True, "more": None}
    assert measure(as_json(reference), as_json(found)) == Loss(0.1, 0.5, 0.75)
    assert measure(as_json(reference), as_json(reference)) == Loss(0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("reference", "found", "loss"),
    [
        ("cat", "cat", Loss(None, None, 1.0)),
        ([1, 2, 3, 4], [1, 2, 3, 5], Loss(None, None, 0.75)),
        (0.0, 0.25, Loss(None, 0.25, None)),
        (0.0, 0.0, Loss(0.0, 0.0, None)),
        (2.0, 1, Loss(0.5, 1.0, None)),
        (1.0, True, Loss(None, None, 0.0)),
        (1.5, 10**400, Loss(None, None, 0.0)),
        (1e300, -1e300, Loss(None, 2e300, None)),
        ([], [], Loss(None, None, None)),
        ([1.0, 2.0], [1.0], Loss(0.0, 0.0, 0.0, "it has 1 items, not 2")),
        ({"a": {"b": [1.0]}}, {"a": {"b": 1.0}}, Loss(None, None, 0.0, "at 'a.b' it is of")),
        ({"a": 1.0, "b": 1}, {"a": 1.0}, Loss(0.0, 0.0, 0.0, "it has other keys")),
    ],
)
def test_what_has_no_equal_place_is_told(reference: object, found: object, loss: Loss) -> None:
    measured = measure(as_json(reference), as_json(found))
    numbers = (measured.relative_error, measured.largest_difference, measured.equal_share)
    assert numbers == (loss.relative_error, loss.largest_difference, loss.equal_share)
    assert (measured.differs or "").startswith(loss.differs or "")
    assert (measured.differs is None) == (loss.differs is None)


def test_lines_of_a_stream_are_compared_one_by_one() -> None:
    loss = measure(stream("a", 3.0, 4.0), stream("b", 3.0, 4.5))
    assert loss == Loss(0.1, 0.5, 0.0)
    shorter = measure(stream("a", 3.0), stream("a"))
    assert shorter.differs == "it has 1 items, not 2"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "bool"])
def test_whole_elements_are_equal_or_not(dtype: str) -> None:
    reference, found = np.array([0, 1, 1, 0], dtype), np.array([0, 1, 0, 0], dtype)
    assert measure(as_tensor(reference), as_tensor(found)) == Loss(None, None, 0.75)


def test_what_is_not_a_number_counts_as_equal_or_not() -> None:
    reference = torch.tensor([math.nan, math.inf, 3.0, math.nan, 4.0])
    found = torch.tensor([math.nan, math.inf, 3.0, 1.0, 4.5])
    assert measure(as_tensor(reference), as_tensor(found)) == Loss(0.1, 0.5, 2 / 3)


def test_complex_numbers_are_two_each() -> None:
    loss = measure(as_tensor(torch.tensor([3 + 4j])), as_tensor(torch.tensor([3 + 4.5j])))
    assert loss == Loss(0.1, 0.5, None)


def test_another_shape_or_content_type_is_told() -> None:
    shapes = measure(as_tensor(torch.zeros(2, 3)), as_tensor(torch.zeros(3, 2)))
    assert shapes.differs == "it is a F32 tensor of shape [3, 2], not [2, 3] of F32"
    types = measure(as_json("a"), Golden("text/plain", b"a"))
    assert types == Loss(None, None, 0.0, "it is text/plain, not application/json")


def test_other_bytes_are_equal_as_a_whole() -> None:
    picture, other = Golden("image/png", b"a"), Golden("image/png", b"b")
    assert measure(picture, picture) == Loss(None, None, 1.0)
    assert measure(picture, other) == Loss(None, None, 0.0)


def test_too_deep_an_answer_is_compared_as_a_whole() -> None:
    deep = Golden("application/json", b"[" * 100_000 + b"]" * 100_000)
    assert measure(deep, deep).equal_share == 1.0
