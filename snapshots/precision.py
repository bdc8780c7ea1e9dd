"""Weights in lower precision: codes of 8 bits and a scale for each row of a weight.

A row's scale is its largest magnitude divided by the largest code, as in symmetric, per-channel
quantization: https://arxiv.org/abs/2004.09602 (section 3). int8 codes go from -127 to 127, those
of fp8 are float8_e4m3fn up to 448: https://arxiv.org/abs/2209.05433.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import cache
from typing import Any, Final, Literal, Self

import torch
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized

from dsfn.functions.values import dataclass
from dsfn.snapshots.reachable import held_by, reachable
from dsfn.snapshots.tensors import address_of

Kind = Literal["int8", "fp8"]

# What is smaller gains nothing that anyone would notice.
MIN_ELEMENTS = 4096
_CHUNK_ELEMENTS = 16 << 20
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_CODES: Mapping[Kind, tuple[torch.dtype, float]] = {
    "int8": (torch.int8, 127.0),
    "fp8": (torch.float8_e4m3fn, 448.0),
}


@dataclass(frozen=True, slots=True)
class Lowered:
    """What lowering the weights of a state came to, in bytes of all its tensors before and
    after; of the latter `kept_bytes` are as they were."""

    bytes_before: int
    bytes_after: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class _Codes:
    """A weight in lower precision: codes of its shape and a float32 scale for each row."""

    codes: torch.Tensor
    scales: torch.Tensor


class _LowWeight(torch.nn.Module):
    """Goes before a module's own class: its `weight` is made anew from codes at each use."""

    low_class: type[torch.nn.Module]
    weight_codes: torch.Tensor
    weight_scales: torch.Tensor
    weight_dtype: torch.dtype

    @property
    def weight(self) -> torch.Tensor:
        """The weight as the module's own code knows it, but without gradients, and its own only
        until it is read again."""
        return _decoded(self.weight_codes, self.weight_scales, self.weight_dtype)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Part of `Module`: `to()`, `cuda()`, `half()` and the like. Codes keep their dtypes."""
        low = _Codes(self._buffers.pop("weight_codes"), self._buffers.pop("weight_scales"))  # type: ignore[arg-type]  # no None
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it so
            like = fn(torch.empty(0, dtype=self.weight_dtype, device=low.codes.device))
            low = _Codes(low.codes.to(like.device), low.scales.to(like.device))
            self.weight_dtype = like.dtype
        finally:
            _set_codes(self, low)
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles by the module's own class, since this one has no name to be found by."""
        return _bare, (self.low_class,), self.__dict__


class _LowEmbedding(_LowWeight):
    """Makes the rows that are asked for, not all."""

    max_norm: float | None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As of `torch.nn.Embedding`."""
        if self.max_norm is not None:
            whole: torch.Tensor = super().forward(input)
            return whole
        # As integers: not every operation knows of float8.
        codes = functional.embedding(input, self.weight_codes.view(torch.int8))
        scales = functional.embedding(input, self.weight_scales)
        return _decoded(codes.view(self.weight_codes.dtype), scales, self.weight_dtype)


_LOW: Final[Mapping[type[torch.nn.Module], type[_LowWeight]]] = {
    torch.nn.Linear: _LowWeight,
    torch.nn.Conv1d: _LowWeight,
    torch.nn.Conv2d: _LowWeight,
    torch.nn.Conv3d: _LowWeight,
    torch.nn.Embedding: _LowEmbedding,
}

# What a class must leave to torch's own for its weight to be replaced behind its back.
_TORCHS_OWN = (
    "forward", "__getattr__", "__setattr__", "__delattr__", "__reduce__", "__reduce_ex__",
    "__getstate__", "__setstate__", "__slots__", "_apply",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Weight:
    """A weight that can be lowered, and the modules that have it."""

    tensor: torch.nn.Parameter
    modules: list[torch.nn.Module] = field(default_factory=list)


def lower(attributes: Mapping[str, object], kind: Kind) -> Lowered:
    """Lowers the weights of linear, convolution and embedding modules in `attributes`, in place.

    The modules stay the objects that they are, with their hooks and attributes; what they hold
    is smaller and is made a weight of the same dtype whenever it is used. Modules that share a
    weight share the codes. Weights stay as they are that are small, not finite or no plain
    parameters (weight norm, say), that something else holds as well, or whose module has a
    `forward` of its own.
    """
    bytes_before, low_bytes = _tensor_bytes(attributes), 0
    weights = _weights(attributes)
    while weights:  # each is let go of before the next one is lowered
        weight = weights.pop()
        low = _encoded(weight.tensor.detach(), kind)
        if low is not None:
            low_bytes += low.codes.nbytes + low.scales.nbytes
            for module in weight.modules:
                _lower_module(module, weight.tensor.dtype, low)
    bytes_after = _tensor_bytes(attributes)
    return Lowered(bytes_before, bytes_after, bytes_after - low_bytes)


def _weights(attributes: Mapping[str, object]) -> list[_Weight]:
    """Those of weights whose memory only modules hold that can be lowered."""
    weights: dict[object, _Weight] = {}
    holders: Counter[int | None] = Counter()
    others: Counter[int | None] = Counter()
    for value in reachable(attributes):
        others.update(address_of(each) for each in held_by(value) if isinstance(each, torch.Tensor))
        if isinstance(value, torch.nn.Module) and (tensor := _weight(value)) is not None:
            holders[address_of(tensor)] += 1
            view = (address_of(tensor), tensor.storage_offset(), tensor.dtype)
            key = (*view, tensor.shape, tensor.stride())
            weights.setdefault(key, _Weight(tensor)).modules.append(value)
    return [
        weight
        for weight in weights.values()
        if others[address_of(weight.tensor)] == holders[address_of(weight.tensor)]
    ]


def _weight(module: torch.nn.Module) -> torch.nn.Parameter | None:
    """A module's weight, if that can be lowered as far as the module has a say."""
    own = type(module)
    base = next((each for each in _LOW if issubclass(own, each)), None)
    if base is None or is_parametrized(module):
        return None
    if any(getattr(own, name, None) is not getattr(base, name, None) for name in _TORCHS_OWN):
        return None
    weight = module._parameters.get("weight")
    if type(weight) is not torch.nn.Parameter or weight.layout is not torch.strided:
        return None
    if weight.device.type not in ("cpu", "cuda") or weight.dtype not in _DTYPES:
        return None
    return weight if weight.dim() > 1 and weight.numel() >= MIN_ELEMENTS else None


def _encoded(weight: torch.Tensor, kind: Kind) -> _Codes | None:
    """A weight in lower precision, None when its numbers are not all finite."""
    dtype, largest = _CODES[kind]
    codes = torch.empty_like(weight, dtype=dtype)
    each = range(1, weight.dim())
    scales = torch.empty((len(weight), *(1 for _ in each)), device=weight.device)
    rows = max(1, _CHUNK_ELEMENTS // weight[0].numel())
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        values = weight[part].float()
        scale = values.abs().amax(tuple(each), keepdim=True).div_(largest)
        scale[scale == 0] = 1
        scales[part] = scale
        values = values.div(scale).clamp_(-largest, largest)
        codes[part] = (values.round_() if dtype is torch.int8 else values).to(dtype)
    return _Codes(codes, scales) if bool(scales.isfinite().all()) else None


def _decoded(codes: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Each code times its row's scale, multiplied in float32 or wider and then rounded once."""
    # Every float8 number is one of `dtype`, too, and no operation multiplies float8.
    values = codes if codes.dtype is torch.int8 else codes.to(dtype)
    return torch.mul(values, scales, out=torch.empty_like(codes, dtype=dtype))


def _lower_module(module: Any, dtype: torch.dtype, low: _Codes) -> None:
    del module.weight
    kind: Any = type(module)
    module.__class__ = _low_class(kind)
    module.weight_dtype = dtype
    _set_codes(module, low)


def _set_codes(module: torch.nn.Module, low: _Codes) -> None:
    module.register_buffer("weight_codes", low.codes)
    module.register_buffer("weight_scales", low.scales)


@cache
def _low_class(kind: Any) -> type[_LowWeight]:
    """What a module of class `kind` is with a lowered weight."""
    low = next(low for base, low in _LOW.items() if issubclass(kind, base))
    attributes = {"low_class": kind, "__module__": __name__}
    return type(f"Low{kind.__name__}", (low, kind), attributes)


def _bare(kind: Any) -> torch.nn.Module:
    """A module without any attributes, for unpickling to fill."""
    low = _low_class(kind)
    return low.__new__(low)


def _tensor_bytes(attributes: Mapping[str, object]) -> int:
    """What the memory of all tensors comes to, shared memory once."""
    sizes: dict[int, int] = {}
    for value in reachable(attributes):
        address = address_of(value) if isinstance(value, torch.Tensor) else None
        if isinstance(value, torch.Tensor) and address is not None:
            sizes[address] = value.untyped_storage().nbytes()
    return sum(sizes.values())
