"""One-shot work for a deploy: discover functions, capture a snapshot, verify and prove it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from dsfn.functions.errors import CaptureError, DefinitionError
from dsfn.functions.function import Function
from dsfn.functions.workflow.document import to_document
from dsfn.functions.workflow.workflow import Workflow
from dsfn.runtime.worker.devices import Devices, has_torch
from dsfn.runtime.worker.faults import author_fault
from dsfn.runtime.worker.messages import Capture, Discover, Prove, Verify
from dsfn.runtime.worker.replica import (
    bare_instance,
    may_stream,
    refresh,
    restore_instance,
    set_up,
)
from dsfn.runtime.worker.source import Source, import_source

MAX_MODULES = 1000

Document = dict[str, Any]
_NOTHING: Document = {
    "captured": False,
    "reason": None,
    "golden": False,
    "why_no_golden": None,
    "first_use": 0,
    "workspace_bytes": 0,
    "precision": None,
}


def run_job(document: Mapping[str, Any], owner: socket.socket | None = None) -> Document:
    """Runs the job that a JOB frame describes; its result is as `messages` says. GPU memory
    comes through the socket `owner`.

    Raises `DeployError`, `SnapshotError`, `StorageFull`, `NotFound`, `MemoryFull`, `OwnerLost`.
    """
    jobs: dict[str, Callable[[Mapping[str, Any]], Document]] = {
        "discover": lambda d: discover(Discover.from_document(d)),
        "capture": lambda d: capture(Capture.from_document(d)),
        "verify": lambda d: verify(Verify.from_document(d), owner),
        "prove": lambda d: prove(Prove.from_document(d), owner),
    }
    return jobs[document["job"]](document)


def discover(job: Discover) -> Document:
    """Finds the functions of a file, and traces its workflows."""
    bundle = Path(job.bundle).resolve()
    source = import_source(bundle, job.entry, {})
    described = []
    for name, function in source.functions.items():
        try:
            interface = function.interface()
        except DefinitionError as error:
            what = f"Reading {name!r}"
            raise author_fault(DefinitionError, what, error, bundle, name) from error
        described.append(
            {"options": function.options.to_document(), "interface": interface.to_document()}
        )
    return {
        "functions": described,
        "workflows": [_traced(found, bundle) for found in source.workflows.values()],
    }


def _traced(workflow: Workflow[..., Any], bundle: Path) -> Document:
    try:
        return to_document(workflow.trace())
    except DefinitionError as error:
        name = workflow.options.name
        what = f"Tracing {name!r}"
        raise author_fault(DefinitionError, what, error, bundle, name) from error


def capture(job: Capture) -> Document:
    """Runs `setup()` and writes a snapshot, if there is a state that can be captured."""
    before = frozenset(sys.modules)
    devices = Devices.choose(job.gpus, None)
    bundle = Path(job.bundle).resolve()
    source = import_source(bundle, job.entry, job.env)
    function = source.function(job.function)
    imported = installed_modules(before)
    began_ns = perf_counter_ns()
    instance = set_up(function, bundle)
    setup_us = (perf_counter_ns() - began_ns) // 1000
    everything = installed_modules(before)
    shown = _NOTHING
    if instance is not None:
        try:
            shown = _write_snapshot(instance, source, function, job, devices)
        except CaptureError as error:
            shown = {**_NOTHING, "reason": error.message}
    return {
        **shown,
        "setup_us": setup_us,
        # What setup() alone needs, often by far the most, is not needed where it is not run.
        "modules": imported if shown["captured"] else everything,
    }


def _write_snapshot(
    instance: object, source: Source, function: Function[..., Any], job: Capture, devices: Devices
) -> Document:
    """Calls the sample, if there is one, and captures the state; what that showed.

    Raises `CaptureError`, `StorageFull`, and as `Sample.record`.
    """
    if not has_torch():
        raise CaptureError("Snapshots need torch, which is not installed.")
    from dsfn.runtime.worker.lowering import record
    from dsfn.runtime.worker.sample import Sample, put_back
    from dsfn.snapshots.capture import attributes_of, capture
    from dsfn.snapshots.format import Manifest, Origin
    from dsfn.snapshots.libraries import loaded_libraries
    from dsfn.snapshots.tensors import own_slab

    bundle = Path(job.bundle).resolve()
    sample, before = Sample.of(function, instance, bundle), attributes_of(instance)
    trial, precision = (None, None) if sample is None else record(sample)

    def save() -> Manifest:
        return capture(
            instance,
            source.classes,
            Path(job.staging),
            origin=Origin(job.code, function.options.digest, loaded_libraries()),
            golden=None if trial is None else trial.golden,
            first_use=() if trial is None else trial.first_use,
            place=devices.place or own_slab,
        )

    try:
        manifest = save()
    except CaptureError:
        if sample is None:
            raise
        # What its calls left, a lock or an open file, may be to blame.
        put_back(instance, before, {*before, *attributes_of(instance)})
        manifest = save()
    return {
        "captured": True,
        "reason": None,
        "golden": manifest.golden is not None,
        "why_no_golden": None if trial is None else trial.why_none,
        "first_use": sum(slab.first_use for slab in manifest.slabs),
        "workspace_bytes": 0 if trial is None else trial.workspace_bytes,
        "precision": precision,
    }


def verify(job: Verify, owner: socket.socket | None = None) -> Document:
    """Compares a snapshot, restored here, with what was captured; tries `after_restore()` and
    a call with the sample."""
    from dsfn.runtime.worker.sample import Sample
    from dsfn.snapshots.golden import read_golden
    from dsfn.snapshots.verify import verify as compare

    before = frozenset(sys.modules)
    devices = Devices.choose(job.gpus, owner)
    bundle = Path(job.bundle).resolve()
    source = import_source(bundle, job.entry, job.env)
    function = source.function(job.function)
    snapshot = Path(job.snapshot)
    verified = compare(snapshot, source.classes, devices.memories, bare_instance(function))
    # Anew, since nothing may be read any more from what was compared.
    instance, _ = restore_instance(function, source, snapshot, devices)
    refresh(function, instance, bundle)
    sample = Sample.of(function, instance, bundle)
    if sample is not None:
        sample.compare(read_golden(snapshot))
    return {
        "tensors": verified.tensors,
        "bytes": verified.bytes,
        "modules": installed_modules(before),
    }


def prove(job: Prove, owner: socket.socket | None = None) -> Document:
    """Tries whether a function answers its sample while its weights arrive."""
    from dsfn.runtime.worker.sample import Sample
    from dsfn.snapshots.golden import read_golden
    from dsfn.snapshots.prove import streams

    devices = Devices.choose(job.gpus, owner)
    bundle = Path(job.bundle).resolve()
    source = import_source(bundle, job.entry, job.env)
    function = source.function(job.function)
    instance, snapshot = bare_instance(function), Path(job.snapshot)
    sample, golden = Sample.of(function, instance, bundle), read_golden(snapshot)
    options = function.options
    may = may_stream(function, options.concurrency, options.max_batch)
    if sample is None or golden is None or not may:
        return {"streams": False}

    def answers() -> bool:
        refresh(function, instance, bundle)
        sample.compare(golden)
        return True

    return {"streams": streams(snapshot, source.classes, devices.memories, instance, answers)}


def installed_modules(before: Collection[str]) -> list[str]:
    """The installed modules that were not loaded `before`, by dotted name, each after those
    that it needed; of too many only the top-level ones."""
    found = [
        name
        for name, module in sys.modules.items()
        if name not in before and _is_installed(name, getattr(module, "__file__", None))
    ]
    return found if len(found) <= MAX_MODULES else [name for name in found if "." not in name]


def _is_installed(name: str, file: object) -> bool:
    if not isinstance(file, str) or name.partition(".")[0] in ("dsfn", "__main__"):
        return False
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)
