"""The JSON documents that node, fork server and worker exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Self

from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """A document whose keys are the fields' names."""

    def to_document(self) -> dict[str, Any]:
        """This message as a JSON-able document."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Reads back what `to_document` wrote; unknown keys are ignored."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in document.items() if k in known}
        if "gpus" in values:
            values["gpus"] = tuple(Gpu(**gpu) for gpu in values["gpus"])
        if "slabs" in values:
            values["slabs"] = tuple(CheckedSlab(**slab) for slab in values["slabs"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that a worker may use: its number in the memory owner, and what it is ("cuda:1", or
    a stand-in: see `dsfn.snapshots.owner.messages.Start`)."""

    index: int
    spec: str


@dataclass(frozen=True, slots=True)
class CheckedSlab:
    """Whether a slab in memory is as it was captured; `device` as in the snapshot's manifest."""

    device: str
    is_intact: bool


@dataclass(frozen=True, slots=True)
class Load(Message):
    """LOAD: become a replica of one revision.

    `bundle` is the directory of the unpacked source, `snapshot` that of the
    published snapshot or None (then `setup()` runs), `blobs` that of the node's
    blob store (for `$ref`). `gpus`: those it gets, in the order in which it counts them.
    `streams`: a verification has proved that it may run while its weights arrive.
    """

    bundle: str
    entry: str
    function: str
    revision: str
    snapshot: str | None
    blobs: str
    concurrency: int
    memory_bytes: int | None
    env: dict[str, str]
    max_body_bytes: int
    max_result_bytes: int
    max_batch: int = 1
    gpus: tuple[Gpu, ...] = ()
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Warm(Message):
    """WARM: make a context on these GPUs, for the `Load` that will come for them."""

    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """READY: how long becoming a replica took. `import_us` user code's import,
    `restore_us` the snapshot's restore with `after_restore()`, `setup_us` `setup()`
    (0 when restored); `parts` of these, named as those of a call's phases."""

    import_us: int
    restore_us: int
    setup_us: int
    device_class: str
    parts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Checked(Message):
    """CHECKED: each slab of the replica, none if `setup()` loaded it, and how long looking took."""

    slabs: tuple[CheckedSlab, ...]
    check_us: int

    @property
    def is_intact(self) -> bool:
        """Whether all of them are."""
        return all(slab.is_intact for slab in self.slabs)


@dataclass(frozen=True, slots=True)
class Discover(Message):
    """JOB "discover": find the functions of a file, and trace its workflows.

    Result: {"functions": [{"options": {...}, "interface": {...}}], "workflows": [{...}]}, the
    latter as in `dsfn.functions.workflow.document`.
    """

    bundle: str
    entry: str
    job: str = "discover"


@dataclass(frozen=True, slots=True)
class Capture(Message):
    """JOB "capture": run `setup()`, call the function's sample if it has one, and write a
    snapshot into the empty directory `staging`.

    `code` is the sha256 of the source bundle, which the snapshot is marked with.
    Result: {"captured": bool, "reason": str | None, "golden": bool, "why_no_golden":
    str | None, "first_use": int, "workspace_bytes": int, "precision": {...} | None,
    "setup_us": int, "modules": [str]}.
    `golden`, `first_use` (of all slabs), `workspace_bytes` and `precision` as in
    `dsfn.runtime.model.SnapshotRef`; `why_no_golden` when the sample has no golden output.
    `modules`: the installed modules (dotted names) that a start of the function imports, as
    far as is known before `verify`, for the fork server to preload in this order.
    """

    bundle: str
    entry: str
    function: str
    staging: str
    env: dict[str, str]
    code: str = ""
    gpus: tuple[Gpu, ...] = ()
    job: str = "capture"


@dataclass(frozen=True, slots=True)
class Verify(Message):
    """JOB "verify": restore the snapshot in `snapshot`, compare every tensor's bytes, and what
    the sample's call gives with the golden output.

    Result: {"tensors": int, "bytes": int, "modules": [str]}, the modules as for `Capture`,
    all that a restore and the sample's call import. Raises `SnapshotError`.
    """

    bundle: str
    entry: str
    function: str
    snapshot: str
    env: dict[str, str]
    gpus: tuple[Gpu, ...] = ()
    job: str = "verify"


@dataclass(frozen=True, slots=True)
class Prove(Message):
    """JOB "prove": restore the verified snapshot in `snapshot` into memory that is poisoned but
    for what is waited for, and call the sample. The process may be of no use afterwards.

    Result: {"streams": bool}, as in `Load`. Raises `MemoryFull`, `OwnerLost`.
    """

    bundle: str
    entry: str
    function: str
    snapshot: str
    env: dict[str, str]
    gpus: tuple[Gpu, ...] = ()
    job: str = "prove"


@dataclass(frozen=True, slots=True)
class Spawn(Message):
    """To the fork server, with the worker's descriptors: its socket, its output pipe and, on a
    node with GPUs, its socket to the memory owner. `home`: of a worker that is confined, to rules
    whose descriptor is the last one then."""

    id: int
    home: str | None = None
    op: str = "spawn"


@dataclass(frozen=True, slots=True)
class Preload(Message):
    """To the fork server: import these installed modules, in this order, if a trial child
    finds it safe within `timeout_s`. Names may be dotted."""

    modules: list[str]
    timeout_s: float = 30.0
    op: str = "preload"


@dataclass(frozen=True, slots=True)
class Spawned(Message):
    """From the fork server: the worker of `Spawn.id` lives."""

    id: int
    pid: int
    op: str = "spawned"


@dataclass(frozen=True, slots=True)
class SpawnFailed(Message):
    """From the fork server: there is no worker for `Spawn.id`, and why."""

    id: int
    reason: str
    op: str = "spawn_failed"


@dataclass(frozen=True, slots=True)
class Exited(Message):
    """From the fork server: a worker ended; `status` as of `os.waitstatus_to_exitcode`."""

    pid: int
    status: int
    op: str = "exited"


@dataclass(frozen=True, slots=True)
class Preloaded(Message):
    """From the fork server: what it imported, and why it did not import the rest (by
    top-level name)."""

    modules: list[str]
    rejected: dict[str, str]
    op: str = "preloaded"
