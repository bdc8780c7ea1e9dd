"""The golden output: what a function answers to its own sample, before and after a restore."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dsfn.functions.errors import InvalidInput
from dsfn.functions.tensor import DTYPES, Tensor
from dsfn.functions.values import dataclass
from dsfn.snapshots.format import GOLDEN_FILE
from dsfn.snapshots.reading import read_file, read_manifest

MAX_GOLDEN_BYTES = 64 << 20
# Another process may add up in another order. Wrong weights are further off than this.
TOLERANCE = 0.01
_NEAR_ZERO = 1e-4

_DATA = b"data: "


@dataclass(frozen=True, slots=True)
class Golden:
    """An answer, as it would go over the wire; of a stream, all of it."""

    content_type: str
    data: bytes


def read_golden(directory: Path) -> Golden | None:
    """The golden output of the snapshot in `directory`, if it has one. Raises
    `CorruptSnapshot`."""
    _, manifest = read_manifest(directory, through_links=True)
    if manifest.golden is None:
        return None
    return Golden(manifest.golden.content_type, read_file(directory, manifest, GOLDEN_FILE))


def difference(golden: Golden, found: Golden) -> str | None:
    """How `found` is another answer than `golden`, None when it is the same.

    Numbers with a point may differ by `TOLERANCE`: in JSON relative to the larger of the two
    (or by 0.0001), in a tensor relative to its largest element. All else must be equal, and
    images, sounds and files byte for byte.
    """
    if golden == found:
        return None
    if golden.content_type != found.content_type:
        return f"its content type is {found.content_type}, not {golden.content_type}"
    media = golden.content_type.partition(";")[0].strip()
    if media == Tensor.content_type:
        return _tensors_differ(golden.data, found.data)
    if media == "text/event-stream":
        return _events_differ(golden.data, found.data)
    if media.endswith("json"):
        return _texts_differ(golden.data, found.data)
    return _bytes_differ(golden.data, found.data)


def _bytes_differ(golden: bytes, found: bytes) -> str | None:
    if golden == found:
        return None
    return f"its {len(found)} bytes are not the {len(golden)} bytes that were expected"


def _texts_differ(golden: bytes, found: bytes) -> str | None:
    """Of two JSON texts."""
    try:
        return _values_differ("", json.loads(golden), json.loads(found))
    except (ValueError, RecursionError):  # no JSON, or too deep to look into
        return _bytes_differ(golden, found)


def _events_differ(golden: bytes, found: bytes) -> str | None:
    """Of two streams of server-sent events, each line of which may be JSON."""
    lines, others = golden.splitlines(), found.splitlines()
    if len(lines) != len(others):
        return f"its stream has {len(others)} lines, not {len(lines)}"
    for number, (line, other) in enumerate(zip(lines, others, strict=True), 1):
        why = _texts_differ(line.removeprefix(_DATA), other.removeprefix(_DATA))
        if why is not None:
            return f"in line {number} of its stream, {why}"
    return None


def _values_differ(path: str, golden: Any, found: Any) -> str | None:
    where = f"at '{path}' it" if path else "it"
    if isinstance(golden, float) and isinstance(found, float | int) and not _is_flag(found):
        largest = max(abs(golden), abs(found))
        close = abs(golden - found) <= max(TOLERANCE * largest, _NEAR_ZERO)
        return None if close else f"{where} is {found!r}, not {golden!r}"
    if isinstance(golden, Mapping) and isinstance(found, Mapping):
        if golden.keys() != found.keys():
            return f"{where} has other keys"
        return _items_differ(path, {key: (golden[key], found[key]) for key in golden})
    if isinstance(golden, Sequence) and not isinstance(golden, str) and isinstance(found, Sequence):
        if len(golden) != len(found):
            return f"{where} has {len(found)} items, not {len(golden)}"
        return _items_differ(path, dict(enumerate(zip(golden, found, strict=True))))
    if type(golden) is type(found) and golden == found:
        return None
    return f"{where} is {_shown(found)}, not {_shown(golden)}"


def _items_differ(path: str, pairs: Mapping[Any, tuple[Any, Any]]) -> str | None:
    for key, (golden, found) in pairs.items():
        why = _values_differ(f"{path}.{key}" if path else str(key), golden, found)
        if why is not None:
            return why
    return None


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _tensors_differ(golden: bytes, found: bytes) -> str | None:
    try:
        expected, other = Tensor.decoded(golden), Tensor.decoded(found)
    except InvalidInput:  # the encoder wrote something else
        return _bytes_differ(golden, found)
    if (expected.dtype, expected.shape) != (other.dtype, other.shape):
        return (
            f"it is a {other.dtype} tensor of shape {list(other.shape)}, not a"
            f" {expected.dtype} tensor of shape {list(expected.shape)}"
        )
    dtype: torch.dtype = getattr(torch, DTYPES[expected.dtype][0])
    if not expected.data or not (dtype.is_floating_point or dtype.is_complex):
        return None if expected == other else "the elements of its tensor differ"
    wide = torch.complex128 if dtype.is_complex else torch.float64
    left, right = (
        torch.frombuffer(bytearray(each.data), dtype=dtype).to(wide) for each in (expected, other)
    )
    finite = left.isfinite()
    scale = float(left[finite].abs().max()) if finite.any() else 0.0
    if torch.allclose(left, right, rtol=0, atol=TOLERANCE * scale, equal_nan=True):
        return None
    return f"elements of its tensor differ by more than {TOLERANCE:.0%} of the largest"
