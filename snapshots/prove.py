"""Proves that a function may run while its weights arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dsfn.functions.errors import Unavailable
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.format import CPU
from dsfn.snapshots.gate import gated
from dsfn.snapshots.memory import Memory, Slab
from dsfn.snapshots.restore import restore
from dsfn.snapshots.starving import StarvingMemory


def streams(
    directory: Path,
    classes: Classes,
    memories: Mapping[str, Memory],
    instance: object,
    answers: Callable[[], bool],
) -> bool:
    """Whether a function reads no byte of its slabs that it has not waited for.

    Restores the snapshot in `directory` into memory that is poisoned but for what the gate
    waits for, `instance` as for `restore`, and runs `answers`, which is one call (what comes
    before it in a replica included) and whether its answer is the right one; then once more
    after a park, since the first call may have kept something that goes around the gate.
    Whatever else goes wrong is a no: on a GPU nothing may work any more in this process then.

    Raises `MemoryFull` and `OwnerLost`.
    """
    starving = {
        name: memory if name == CPU else StarvingMemory(memory) for name, memory in memories.items()
    }
    try:
        restored = restore(directory, classes, starving, instance, streams=True)
        slabs = tuple(restored.slabs.values())
        right = _is_right(slabs, answers)
        for slab in slabs:
            slab.park()
            slab.begin_unpark()
        right = right and _is_right(slabs, answers)
        for slab in slabs:
            slab.close()
    except Unavailable:
        raise
    except (Exception, SystemExit):  # noqa: BLE001  poison may make the function's code raise anything
        return False
    return right


def _is_right(slabs: Sequence[Slab], answers: Callable[[], bool]) -> bool:
    with gated(slabs):
        return answers()
