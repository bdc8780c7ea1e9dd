"""Everything that a function's first call would import or build, done once ahead of all.

Much of pydantic, Pillow and the like is loaded when it is first used. What the fork server
has used, every worker has.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from dsfn.functions.codec import decode_arguments, encode_result
from dsfn.functions.errors import NotFound, StorageFull
from dsfn.functions.function import function
from dsfn.functions.interface import JSON_CONTENT_TYPE
from dsfn.functions.parts import Audio, Image, Tensor
from dsfn.runtime.libraries import LIBRARIES

_OURS = ("dsfn", "dsfn.runtime.worker.main")
_OURS_OVER_TORCH = ("dsfn.snapshots.cpu", "dsfn.snapshots.restore")
_OURS_OVER_GPUS = ("dsfn.snapshots.owner.memory", "dsfn.snapshots.owner.space")
# Its driver's bindings are imported with it, which neither ask for a GPU nor for the driver.
_OURS_OVER_CUDA = "dsfn.snapshots.cuda"
# Where it is missing or full, the first restore is the slower one. Not tempfile's own choice: that
# is made once, and an author's TMPDIR would come too late.
_IN_MEMORY = "/dev/shm"

_needed: set[str] = set()


def rehearse(libraries: Sequence[str] = LIBRARIES, *, gpus: bool = False) -> None:
    """Imports what a worker needs, `libraries` as far as they are installed, with `gpus` also what
    brings weights to some, and uses it."""
    found = [m for m in libraries if importlib.util.find_spec(m.partition(".")[0]) is not None]
    ours = (*_OURS, *_OURS_OVER_TORCH) if "torch" in found else _OURS
    for module in (*found, *ours):
        importlib.import_module(module)
    if gpus and "torch" in found:
        _import_for_gpus()
    for scene in scenes():
        scene()
    _needed.update(sys.modules)


def _import_for_gpus() -> None:
    for module in _OURS_OVER_GPUS:
        importlib.import_module(module)
    with suppress(ImportError):  # without the bindings, or with broken ones, all else works
        importlib.import_module(_OURS_OVER_CUDA)


def is_needed(module: str) -> bool:
    """Whether every worker needs the module of this name, what was preloaded aside."""
    return module in sys.stdlib_module_names or module in _needed


def scenes() -> Iterator[Callable[[], None]]:
    """What is rehearsed. A fork that runs them again has its own copy of the pages that
    a call writes to, reference counts above all, before the call comes."""
    yield _run_json
    if "pydantic" in sys.modules:
        yield _run_pydantic
    if "PIL.Image" in sys.modules:
        yield _run_image
    if "numpy" in sys.modules and "soundfile" in sys.modules:
        yield _run_audio
    if "numpy" in sys.modules and "safetensors" in sys.modules:
        yield _run_tensor
    if "dsfn.snapshots.restore" in sys.modules:
        yield _run_restore


def _run_json() -> None:
    signature = function(_Specimen).signature
    signature.prepare()
    arguments = decode_arguments(signature, JSON_CONTENT_TYPE, b'{"text":"a"}', _no_reference)
    encode_result(signature, _Specimen()(**arguments))  # type: ignore[arg-type]  # as decoded


def _run_pydantic() -> None:
    specimen = function(_OtherSpecimen)
    specimen.interface()
    signature = specimen.signature
    arguments = decode_arguments(signature, JSON_CONTENT_TYPE, b'{"pair":[1,2]}', _no_reference)
    encode_result(signature, _OtherSpecimen()(**arguments))  # type: ignore[arg-type]  # as decoded


def _run_image() -> None:
    import PIL.Image

    Image.of(PIL.Image.new("RGB", (8, 8)), "JPEG").check("image")


def _run_audio() -> None:
    import numpy as np

    Audio.of(np.zeros(80), 8000).samples()


def _run_tensor() -> None:
    import numpy as np

    Tensor.decoded(Tensor.of(np.zeros(8)).encoded()).numpy()


def _run_restore() -> None:
    from tempfile import TemporaryDirectory

    from dsfn.snapshots.classes import Classes
    from dsfn.snapshots.cpu import CpuMemory
    from dsfn.snapshots.restore import restore

    with suppress(OSError, StorageFull), TemporaryDirectory(dir=_IN_MEMORY) as directory:
        for name, data in _specimen_snapshot().items():
            (Path(directory) / name).write_bytes(data)
        restore(Path(directory), Classes(), {CpuMemory.device_class: CpuMemory()})


@cache
def _specimen_snapshot() -> Mapping[str, bytes]:
    """The files of a snapshot with a little of everything, which a worker has from its fork."""
    from tempfile import TemporaryDirectory

    from torch import nn
    from torch.jit import CompilationUnit

    from dsfn.snapshots.capture import capture
    from dsfn.snapshots.classes import Classes

    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.LayerNorm(2))
    # Not traced or scripted from Python: the one imports 500 modules, the other is deprecated.
    scripted = CompilationUnit("def same(x):\n    return x\n").same
    with TemporaryDirectory(dir=_IN_MEMORY) as directory:
        capture({"network": network, "scripted": scripted}, Classes(), Path(directory))
        return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


class _Specimen:
    def __call__(self, text: str, numbers: list[float] | None = None) -> dict[str, int]:
        return {text: len(numbers or ())}


class _OtherSpecimen:
    """Its types are none of the plain ones, which need no pydantic."""

    def __call__(self, pair: tuple[int, int]) -> set[int]:
        return set(pair)


def _no_reference(reference: str) -> tuple[bytes, str]:
    raise NotFound(f"There is no {reference}.", kind="blob", name=reference)
