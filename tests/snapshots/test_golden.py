from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dsfn.functions.errors import CorruptSnapshot
from dsfn.functions.tensor import Tensor
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.golden import Golden, difference, read_golden


def as_json(value: object) -> Golden:
    return Golden("application/json", json.dumps(value).encode())


def as_tensor(array: object) -> Golden:
    tensor = Tensor.of(array)
    return Golden(tensor.content_type, tensor.encoded())


@pytest.mark.parametrize(
    ("golden", "found"),
    [
        ({"a": [1, "b", None, True]}, {"a": [1, "b", None, True]}),
        ([0.5, 1e-9], [0.504, -1e-9]),
        (3.0, 3),
        ([[]], [[]]),
    ],
)
def test_the_same_answer_may_have_been_added_up_in_another_order(
    golden: object, found: object
) -> None:
    assert difference(as_json(golden), as_json(found)) is None


@pytest.mark.parametrize(
    ("golden", "found", "words"),
    [
        ({"scores": [0.5, 0.4]}, {"scores": [0.5, 0.5]}, "at 'scores.1' it is 0.5, not 0.4"),
        ([1, 2], [1, 3], "at '1' it is 3, not 2"),
        ([1], [1, 1], "it has 2 items, not 1"),
        ({"a": 1}, {"b": 1}, "it has other keys"),
        ("cat", "dog", "it is 'dog', not 'cat'"),
        (1, True, "it is True, not 1"),
        (1.0, True, "it is True, not 1.0"),
        (None, 0, "it is 0, not None"),
        (1, 1.004, "it is 1.004, not 1"),
        ("abc", ["a", "b", "c"], "not 'abc'"),
    ],
)
def test_another_answer_is_told_by_its_first_difference(
    golden: object, found: object, words: str
) -> None:
    assert words in str(difference(as_json(golden), as_json(found)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "complex64"])
def test_elements_of_a_tensor_are_close_by_the_largest_of_them(dtype: str) -> None:
    made = torch.tensor([100.0, 0.0, -3.0]).to(getattr(torch, dtype))
    near = torch.tensor([100.0, 0.5, -3.0]).to(made.dtype)
    far = torch.tensor([100.0, 8.0, -3.0]).to(made.dtype)
    assert difference(as_tensor(made), as_tensor(near)) is None
    assert "differ by more than 1%" in str(difference(as_tensor(made), as_tensor(far)))


def test_tensors_of_integers_must_be_equal_and_shapes_and_dtypes_too() -> None:
    ids = np.arange(4)
    assert difference(as_tensor(ids), as_tensor(ids.copy())) is None
    assert "elements" in str(difference(as_tensor(ids), as_tensor(ids + 1)))
    assert "shape [2, 2]" in str(difference(as_tensor(ids), as_tensor(ids.reshape(2, 2))))
    assert "F32 tensor" in str(difference(as_tensor(ids), as_tensor(ids.astype("f4"))))


def test_what_is_not_a_number_stays_where_it_was() -> None:
    odd = torch.tensor([float("nan"), float("inf"), 1.0])
    assert difference(as_tensor(odd), as_tensor(odd.clone())) is None
    assert difference(as_tensor(odd), as_tensor(torch.tensor([0.0, float("inf"), 1.0])))
    assert difference(as_tensor(odd), as_tensor(torch.tensor([float("nan"), 0.0, 1.0])))


def test_a_stream_is_compared_line_by_line_and_bytes_byte_by_byte() -> None:
    def stream(*items: float) -> Golden:
        body = b"".join(b"data: %s\n\n" % str(item).encode() for item in items)
        return Golden("text/event-stream", body)

    assert difference(stream(1.0, 2.0), stream(1.0, 2.01)) is None
    assert "in line 3 of its stream" in str(difference(stream(1.0, 2.0), stream(1.0, 3.0)))
    assert "has 2 lines, not 4" in str(difference(stream(1.0, 2.0), stream(1.0)))
    image = Golden("image/png", b"\x89PNG")
    assert difference(image, Golden("image/png", b"\x89PNG")) is None
    assert "bytes" in str(difference(image, Golden("image/png", b"\x89PNX")))
    assert "content type is text/plain" in str(difference(image, Golden("text/plain", b"")))
    deep = Golden("application/json", b"[" * 100_000 + b"]" * 100_000)
    assert difference(deep, Golden("application/json", b"[" * 100_000))


def test_a_golden_output_is_kept_with_its_snapshot_and_checked(staging: Path) -> None:
    golden = Golden("text/plain; charset=utf-8", "Grüße".encode())
    capture({"x": torch.ones(1)}, Classes(), staging, golden=golden)
    assert read_golden(staging) == golden
    (staging / "golden.bin").write_bytes("Grübe ".encode())
    with pytest.raises(CorruptSnapshot, match=r"golden\.bin"):
        read_golden(staging)


def test_a_snapshot_need_not_have_one(staging: Path) -> None:
    capture({"x": torch.ones(1)}, Classes(), staging)
    assert read_golden(staging) is None
