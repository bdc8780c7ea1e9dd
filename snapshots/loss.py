"""What an answer in lower precision is off by."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import torch

from dsfn.functions.errors import InvalidInput
from dsfn.functions.tensor import DTYPES, Tensor
from dsfn.functions.values import dataclass
from dsfn.snapshots.golden import Golden

_DATA = b"data: "
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class Loss:
    """How far an answer is from the reference.

    Of all numbers with a point that are at equal places, `relative_error` is the L2 norm of the
    differences over that of the reference (None when the latter is 0, or there are none), and
    `largest_difference` the largest of them. `equal_share` is the share of all else, texts and
    whole numbers say, that is equal; None when there is nothing else. `differs` says where the
    one has something that the other has not.
    """

    relative_error: float | None
    largest_difference: float | None
    equal_share: float | None
    differs: str | None = None


def measure(reference: Golden, found: Golden) -> Loss:
    """Compares two answers: tensors by element, JSON (and each line of server-sent events) by
    value, anything else as a whole."""
    tally = _Tally()
    try:
        tally.add_bodies(reference, found)
    except RecursionError:  # too deep to look into
        return Loss(None, None, float(reference == found))
    return tally.loss()


class _Tally:
    """Adds up what two answers have at equal places."""

    def __init__(self) -> None:
        self._numbers = 0
        self._reference_sq = self._difference_sq = self._largest = 0.0
        self._others = self._equal = 0
        self._differs: str | None = None

    def loss(self) -> Loss:
        """What has been added up."""
        known = self._numbers > 0 and (self._reference_sq > 0 or self._difference_sq == 0)
        norm = math.sqrt(self._reference_sq) or 1.0
        relative = math.sqrt(self._difference_sq) / norm
        return Loss(
            relative_error=relative if known and math.isfinite(relative) else None,
            largest_difference=self._largest if self._numbers else None,
            equal_share=self._equal / self._others if self._others else None,
            differs=self._differs,
        )

    def add_bodies(self, reference: Golden, found: Golden) -> None:
        """Two answers."""
        media = reference.content_type.partition(";")[0].strip()
        if reference.content_type != found.content_type:
            self._miss("", f"is {found.content_type}, not {reference.content_type}")
        elif media == Tensor.content_type:
            self._add_tensors(reference.data, found.data)
        elif media == "text/event-stream":
            self._add_values("", _events(reference.data), _events(found.data))
        elif media.endswith("json"):
            self._add_values("", _value(reference.data), _value(found.data))
        else:
            self._add_other(reference.data == found.data)

    def _add_tensors(self, reference: bytes, found: bytes) -> None:
        try:
            left, right = Tensor.decoded(reference), Tensor.decoded(found)
        except InvalidInput:  # the encoder wrote something else
            self._add_other(reference == found)
            return
        if (left.dtype, left.shape) != (right.dtype, right.shape):
            shapes = f"{list(right.shape)}, not {list(left.shape)}"
            self._miss("", f"is a {right.dtype} tensor of shape {shapes} of {left.dtype}")
        elif left.data:
            self._add_elements(_elements(left), _elements(right))

    def _add_elements(self, reference: torch.Tensor, found: torch.Tensor) -> None:
        numbers = torch.zeros_like(reference, dtype=torch.bool)
        if reference.is_floating_point():
            numbers = reference.isfinite() & found.isfinite()
            left, right = reference[numbers], found[numbers]
            if left.numel():
                self._numbers += left.numel()
                self._reference_sq += float(left.square().sum())
                self._difference_sq += float((right - left).square().sum())
                self._largest = max(self._largest, float((right - left).abs().max()))
        left, right = reference[~numbers], found[~numbers]
        equal = (left == right) | ((left != left) & (right != right))
        self._others += left.numel()
        self._equal += int(equal.sum())

    def _add_values(self, path: str, reference: Any, found: Any) -> None:
        if isinstance(reference, dict) and isinstance(found, dict):
            if reference.keys() != found.keys():
                self._miss(path, "has other keys")
            for key in [key for key in reference if key in found]:
                self._add_values(_joined(path, key), reference[key], found[key])
        elif isinstance(reference, list) and isinstance(found, list):
            if len(reference) != len(found):
                self._miss(path, f"has {len(found)} items, not {len(reference)}")
            for index, (left, right) in enumerate(zip(reference, found, strict=False)):
                self._add_values(_joined(path, index), left, right)
        elif _has_point(reference, found):
            self._numbers += 1
            self._reference_sq += reference * reference
            self._difference_sq += (found - reference) * (found - reference)
            self._largest = max(self._largest, abs(found - reference))
        elif isinstance(reference, dict | list) or isinstance(found, dict | list):
            self._miss(path, "is of another type")
        else:
            self._add_other(type(reference) is type(found) and reference == found)

    def _add_other(self, equal: bool) -> None:
        self._others += 1
        self._equal += equal

    def _miss(self, path: str, how: str) -> None:
        self._add_other(False)
        if self._differs is None:
            self._differs = f"at '{path}' it {how}" if path else f"it {how}"


def _elements(tensor: Tensor) -> torch.Tensor:
    """A tensor's elements in a row: numbers with a point as float64, of complex ones both parts,
    and all others as bits."""
    name, item_bytes = DTYPES[tensor.dtype]
    dtype: torch.dtype = getattr(torch, name)
    data = bytearray(tensor.data)
    if dtype.is_complex:
        return torch.view_as_real(torch.frombuffer(data, dtype=dtype)).flatten().double()
    if dtype.is_floating_point:
        return torch.frombuffer(data, dtype=dtype).double()
    return torch.frombuffer(data, dtype=_BITS[item_bytes])


def _value(data: bytes) -> Any:
    """JSON as a value, and what is none as the text that it is."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace")


def _events(data: bytes) -> list[Any]:
    return [_value(line.removeprefix(_DATA)) for line in data.splitlines() if line]


def _joined(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _has_point(reference: Any, found: Any) -> bool:
    kinds = {type(reference), type(found)}
    numbers = float in kinds and kinds <= {float, int}
    # What JSON spells as larger than a float can be is no number to reckon with.
    return numbers and max(abs(reference), abs(found)) <= sys.float_info.max
