"""A worker's function: brought up from a snapshot or by `setup()`, parked, brought back and
checked."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from dsfn.functions.codec import Limits
from dsfn.functions.errors import SetupError, SnapshotError
from dsfn.functions.function import Function
from dsfn.functions.values import dataclass
from dsfn.runtime.worker.devices import Devices
from dsfn.runtime.worker.endpoint import Endpoint, Gate, no_gate
from dsfn.runtime.worker.faults import author_fault, gpu_memory_full, is_gpu_memory_full
from dsfn.runtime.worker.fetch import Fetcher
from dsfn.runtime.worker.linux import give_memory_back
from dsfn.runtime.worker.messages import Checked, CheckedSlab, Load, Ready
from dsfn.runtime.worker.runner_choice import runs_inline
from dsfn.runtime.worker.source import Source, import_source
from dsfn.runtime.worker.stopwatch import CudaStopwatch, Stopwatch

if TYPE_CHECKING:
    from dsfn.snapshots.memory import Slab


@dataclass(frozen=True, slots=True)
class Replica:
    """A loaded function. `slabs` are where its tensors lie, by their device, when it came from a
    snapshot; with `streams` it may run while they are on their way."""

    endpoint: Endpoint
    ready: Ready
    after_restore: Callable[[], None]
    slabs: Mapping[str, Slab]
    devices: Devices
    streams: bool

    def park(self) -> None:
        """Gives the devices' memory back; no call may run."""
        for slab in self.slabs.values():
            slab.park()
        give_memory_back()
        self.devices.release_cache()

    def unpark(self) -> dict[str, int]:
        """Takes the devices' memory again; microseconds that it took, by part.

        Raises `SetupError`, `DeviceFault`, `OwnerLost`, `ReplicaLost`; and, parked as it was
        before, `MemoryFull` and `NotFound` (the arena has lost the weights).
        """
        began_ns = perf_counter_ns()
        with ExitStack() as back:
            for slab in self.slabs.values():
                slab.begin_unpark()
                back.callback(slab.park)
            mapped_ns = perf_counter_ns()
            if not self.streams:
                for slab in self.slabs.values():
                    slab.unpark()
            back.pop_all()
        copied_ns = perf_counter_ns()
        self.after_restore()
        return {
            "restore.map": (mapped_ns - began_ns) // 1000,
            "restore.copy": (copied_ns - mapped_ns) // 1000,
            "restore.refresh": _since_us(copied_ns),
        }

    def check(self) -> Checked:
        """Compares the weights in memory with what was captured; no call may run.

        Raises `SnapshotError`, `MemoryFull`, `OwnerLost`, `DeviceFault`.
        """
        began_ns = perf_counter_ns()
        slabs = [CheckedSlab(device, slab.is_intact()) for device, slab in self.slabs.items()]
        return Checked(tuple(slabs), _since_us(began_ns))


def load(
    request: Load, owner: socket.socket | None, tell_of_restore: Callable[[], None]
) -> Replica:
    """Brings a function up in this process; GPU memory comes through the socket `owner`. Before
    anything of a snapshot is restored it calls `tell_of_restore`.

    Raises `SourceError`, `SetupError`, `SnapshotError`, `NotFound`, `MemoryFull`, `OwnerLost`,
    `ReplicaLost`.
    """
    began_ns = perf_counter_ns()
    devices = Devices.choose(request.gpus, owner)
    bundle = Path(request.bundle).resolve()
    source = import_source(bundle, request.entry, request.env)
    function = source.function(request.function)
    function.signature.prepare()
    import_us, began_ns = _since_us(began_ns), perf_counter_ns()
    slabs: Mapping[str, Slab] = {}
    restore_us = setup_us = 0
    streams = request.streams and may_stream(function, request.concurrency, request.max_batch)
    if request.snapshot is not None:
        snapshot = Path(request.snapshot)
        tell_of_restore()
        instance, slabs = restore_instance(function, source, snapshot, devices, streams)
    else:
        instance = set_up(function, bundle)
        setup_us, began_ns = _since_us(began_ns), perf_counter_ns()
    snapshot_us = _since_us(began_ns) if request.snapshot is not None else 0
    gate = gate_of(tuple(slabs.values())) if streams else no_gate
    after_restore = partial(refresh, function, instance, bundle, gate)
    after_restore()
    restore_us = _since_us(began_ns)
    parts = {
        "start.import": import_us,
        "start.setup": setup_us,
        "restore.snapshot": snapshot_us,
        "restore.refresh": restore_us - snapshot_us,
    }
    ready = Ready(import_us, restore_us, setup_us, devices.device_class, parts)
    endpoint = _endpoint(request, function, instance, gate, devices)
    return Replica(endpoint, ready, after_restore, slabs, devices, streams)


def _endpoint(
    request: Load, function: Function[..., Any], instance: Any, gate: Gate, devices: Devices
) -> Endpoint:
    return Endpoint(
        handler=function.target if instance is None else instance,
        signature=function.signature,
        bundle=Path(request.bundle).resolve(),
        fetch=Fetcher(Path(request.blobs), request.max_body_bytes),
        limits=Limits(max_body_bytes=request.max_body_bytes),
        max_result_bytes=request.max_result_bytes,
        memory_bytes=request.memory_bytes,
        gate=gate,
        weight=function.weight,
        stopwatch=CudaStopwatch if devices.on_cuda else Stopwatch,
    )


def set_up(function: Function[..., Any], bundle: Path) -> Any:
    """A new instance after its `setup()`; None for a plain function.

    Raises `SetupError`, and `MemoryFull` when a GPU has too little.
    """
    if not function.is_class:
        return None
    name = function.options.name
    try:
        instance = function.target()
        if hasattr(instance, "setup"):
            instance.setup()
    except BaseException as error:  # whatever an author's code raises, sys.exit() included
        if is_gpu_memory_full(error):
            raise gpu_memory_full() from error
        raise author_fault(SetupError, f"setup() of {name!r}", error, bundle, name) from error
    return instance


def restore_instance(
    function: Function[..., Any],
    source: Source,
    snapshot: Path,
    devices: Devices,
    streams: bool = False,
) -> tuple[Any, Mapping[str, Slab]]:
    """An instance as it was captured, and its slabs by device, with `streams` perhaps on their
    way.

    Raises `SnapshotError`, `MemoryFull`, `NotFound`, `OwnerLost`, `ReplicaLost`.
    """
    from dsfn.snapshots.restore import restore

    instance = bare_instance(function)
    memories = devices.memories
    try:
        restored = restore(snapshot, source.classes, memories, instance, streams=streams)
    except SnapshotError as error:
        if error.__cause__ is not None and is_gpu_memory_full(error.__cause__):
            raise gpu_memory_full() from error  # the snapshot is as good as it was
        raise
    return instance, restored.slabs


def bare_instance(function: Function[..., Any]) -> Any:
    """An instance without any attributes, for a snapshot to fill."""
    target: Any = function.target
    return target.__new__(target)


def gate_of(slabs: Sequence[Slab]) -> Gate:
    """Has code wait for what it touches of these slabs."""
    from dsfn.snapshots.gate import gated

    return partial(gated, slabs)


def may_stream(function: Function[..., Any], concurrency: int, max_batch: int) -> bool:
    """Whether calls of a class run so that they can wait for each of its weights."""
    return runs_inline(bare_instance(function), function.signature, concurrency, max_batch)


def refresh(
    function: Function[..., Any], instance: Any, bundle: Path, gate: Gate = no_gate
) -> None:
    """Runs `after_restore()`, if there is one, inside `gate`.

    Raises `SetupError`, and `MemoryFull` when a GPU has too little.
    """
    if not hasattr(instance, "after_restore"):
        return
    name = function.options.name
    with gate():
        try:
            instance.after_restore()
        except BaseException as error:  # as in `set_up`
            if is_gpu_memory_full(error):
                raise gpu_memory_full() from error
            what = f"after_restore() of {name!r}"
            raise author_fault(SetupError, what, error, bundle, name) from error


def _since_us(began_ns: int) -> int:
    return (perf_counter_ns() - began_ns) // 1000
