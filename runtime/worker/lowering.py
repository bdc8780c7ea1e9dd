"""Records a function's sample in the precision that the function asks for."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

from dsfn.functions.errors import SetupError
from dsfn.runtime.worker.faults import gpu_memory_full, is_gpu_memory_full
from dsfn.runtime.worker.sample import Sample, Trial, put_back, refreshed
from dsfn.snapshots.capture import attributes_of
from dsfn.snapshots.loss import measure
from dsfn.snapshots.precision import Kind, Lowered, lower


def record(sample: Sample) -> tuple[Trial, dict[str, Any] | None]:
    """What calls of the sample showed, and, in lower precision, what that costs: a document as
    `dsfn.runtime.precision.Precision` has it. The instance's weights are lowered then.

    Raises as `Sample.record`.
    """
    kind = cast("Kind | None", sample.function.options.precision)
    if kind is None:
        return _record(sample), None
    before = attributes_of(sample.instance)
    with refreshed(sample.function, sample.instance, sample.bundle):
        reference = sample.answer()
    # An answer that the call has put by would hide what the lower precision costs.
    put_back(sample.instance, before, {*before, *attributes_of(sample.instance)})
    lowered = _lower(before, kind)
    try:
        trial = _record(sample)
    except SetupError as error:
        words = f"With its weights in {kind}: {error.message}"
        raise SetupError(words, **error.fields) from error
    loss = measure(reference, trial.answer)
    return trial, {"kind": kind, **asdict(lowered), **asdict(loss)}


def _record(sample: Sample) -> Trial:
    with refreshed(sample.function, sample.instance, sample.bundle):
        return sample.record()


def _lower(attributes: dict[str, object], kind: Kind) -> Lowered:
    try:
        return lower(attributes, kind)
    except RuntimeError as error:
        if is_gpu_memory_full(error):
            raise gpu_memory_full() from error
        raise
