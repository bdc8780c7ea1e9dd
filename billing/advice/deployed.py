"""What is known of a deployed function beside its rows: the options that advice is about."""

from __future__ import annotations

from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Lowering:
    """What lower precision makes of the bytes of a function's snapshot. `measured`: a revision of
    the function had it; otherwise it is calculated from the snapshot's tensors."""

    kind: str
    bytes_before: int
    bytes_after: int
    measured: bool


@dataclass(frozen=True, slots=True)
class Deployed:
    """A function's options as they are now. `devices`: how many a replica holds; `lowering`: None
    where it is in lower precision already, or nothing is known."""

    function: str
    park_after_us: int
    remove_after_us: int
    min_replicas: int = 0
    concurrency: int = 1
    max_batch: int = 1
    devices: int = 1
    lowering: Lowering | None = None
