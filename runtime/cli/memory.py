"""Where the bytes of the arena and of each GPU are, as `dsfn status` tells it."""

from __future__ import annotations

from dsfn.runtime.cli.documents import DeviceDocument, MemoryDocument
from dsfn.runtime.cli.output import size


def memory_rows(memory: MemoryDocument | None, fault: str | None) -> list[tuple[str, str]]:
    """The arena and each GPU, or the `fault` for which there is no memory owner."""
    if memory is None:
        return [] if fault is None else [("gpus", f"no memory owner: {fault}")]
    arena = f"{size(memory['arena_used_bytes'])} of {size(memory['arena_bytes'])} used"
    gpus = [(f"gpu {number}", _parts(gpu)) for number, gpu in enumerate(memory["devices"])]
    return [("arena", arena), *gpus]


def _parts(gpu: DeviceDocument) -> str:
    """Where all of a GPU's memory is; what has none of it is left out."""
    ours = {
        "kept for them": gpu["pooled_bytes"],
        "lent to other GPUs": gpu["neighbour_bytes"],
        "for pieces on their way": gpu["staging_bytes"],
    }
    free, resident = gpu["free_bytes"], gpu["resident_bytes"]
    others = gpu["total_bytes"] - free - resident - sum(ours.values())
    # Staging is part of the reserve.
    left = min(free, max(0, gpu["reserve_bytes"] - gpu["staging_bytes"]))
    rows = {**ours, "in contexts and other processes": others, "left to others": left}
    return ", ".join(
        [
            f"{size(resident)} of {size(gpu['total_bytes'])} in replicas",
            *(f"{size(count)} {what}" for what, count in rows.items() if count),
            f"{size(free - left)} free",
        ]
    )
