"""The values that travel between the rooms of a node: one call in, one answer out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import asdict, field, fields
from enum import StrEnum
from typing import Any

from dsfn.functions.errors import CallCancelled, DsfnError
from dsfn.functions.interface import Interface
from dsfn.functions.options import Options
from dsfn.functions.values import dataclass
from dsfn.runtime.precision import Precision


class ReplicaState(StrEnum):
    """The life of a replica; `absent` is the state of a function with none. A parked one keeps
    its process and its context on the GPU, a frozen one its process alone."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    PARKED = "parked"
    FROZEN = "frozen"
    ABSENT = "absent"


# Goes before every key that a client chose, so that none can be taken for one of the node's own.
CLIENT_KEY = "key:"
# Goes before the keys that events are known by.
EVENT_KEY = "event:"


def shown_key(key: str | None) -> str:
    """An idempotency key as its client wrote it."""
    return (key or "").removeprefix(CLIENT_KEY)


@dataclass(frozen=True, slots=True)
class Origin:
    """The step of a workflow's run that makes a call."""

    workflow: str
    run: str
    step: str


@dataclass(frozen=True, slots=True)
class Payer:
    """On whose account something is done. `key_id`: of the API key it was asked for with, "" for
    none."""

    tenant: str
    key_id: str = ""


def _cancelled() -> DsfnError:
    return CallCancelled("The call was cancelled.")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a function, whoever made it.

    `tenant`: on whose account; `key_id`: of the API key that it came with, "" for none.
    `received_ns` is a monotonic reading (for durations), `received_at_us` UTC
    microseconds since the epoch (for the books). A call is cut off before it costs more than
    `max_cost_nano`. `origin`: the step that makes it, if one does. `called_off`: what it has failed
    for when it is called off, which is its caller's doing unless somebody knows better.
    """

    id: str
    function: str
    body: bytes
    content_type: str
    accept: str = "*/*"
    tenant: str = "default"
    key_id: str = ""
    caller: str = ""
    idempotency_key: str | None = None
    revision: str | None = None
    received_at_us: int = 0
    received_ns: int = 0
    max_cost_nano: int | None = None
    origin: Origin | None = None
    called_off: Callable[[], DsfnError] = field(default=_cancelled, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Phases:
    """Where the time of one call went, in microseconds. They add up to the whole wait.

    `parts` are of what a cold call waited for, in the order of time, named after the phase that
    they are parts of: "restore.copy". "execute.weights" is what it waited for weights that were
    still on their way, in any order with its own work.
    """

    queue_us: int = 0
    start_us: int = 0
    restore_us: int = 0
    execute_us: int = 0
    parts: tuple[tuple[str, int], ...] = ()

    @property
    def is_cold(self) -> bool:
        """Whether the call waited for a replica to start or to be restored."""
        return self.start_us > 0 or self.restore_us > 0

    @property
    def total_us(self) -> int:
        """The whole wait."""
        return self.queue_us + self.start_us + self.restore_us + self.execute_us

    def durations_us(self) -> dict[str, int]:
        """Every phase by its name, in the order of time, and after it its parts."""
        found: dict[str, int] = {}
        for name, attribute in _PHASES:
            found[name] = getattr(self, attribute)
            if self.parts:
                found.update(part for part in self.parts if part[0].startswith(f"{name}."))
        return found

    def server_timing(self) -> str:
        """The phases as a `Server-Timing` header (milliseconds, as the W3C has it)."""
        durations = self.durations_us().items()
        return ", ".join(f"{name};dur={duration / 1000:.3f}" for name, duration in durations)

    @classmethod
    def from_server_timing(cls, header: str) -> Phases:
        """Reads back what `server_timing` wrote. Raises `ValueError` for anything else."""
        found: dict[str, int] = {}
        for metric in header.split(", ") if header else ():
            name, _, duration_ms = metric.partition(";dur=")
            found[name] = round(float(duration_ms) * 1000)
        whole = {attribute: found.pop(name, 0) for name, attribute in _PHASES}
        return cls(**whole, parts=tuple(found.items()))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Phases:
        """Reads back what `dataclasses.asdict` and JSON have made of this."""
        parts = tuple((str(name), int(us)) for name, us in document.get("parts", ()))
        return cls(**{**document, "parts": parts})


# Every answer is asked for its phases: their names are found once.
_PHASES = tuple(
    (f.name.removesuffix("_us"), f.name) for f in fields(Phases) if f.name.endswith("_us")
)


@dataclass(frozen=True, slots=True)
class Charge:
    """What one call used and costs. Money in nano-units of `currency`."""

    device_class: str
    busy_us: int
    held_us: int
    restore_us: int
    cost_nano: int
    currency: str

    @property
    def gpu_us(self) -> int:
        """Microseconds for which a GPU was held."""
        return 0 if self.device_class == "cpu" else self.held_us

    def headers(self) -> tuple[tuple[str, str], ...]:
        """The charge as headers of an answer."""
        return (
            ("dsfn-device-class", self.device_class),
            ("dsfn-busy-us", str(self.busy_us)),
            ("dsfn-held-us", str(self.held_us)),
            ("dsfn-gpu-us", str(self.gpu_us)),
            ("dsfn-cost-nano", str(self.cost_nano)),
            ("dsfn-currency", self.currency),
        )

    def to_document(self) -> dict[str, object]:
        """The charge as a JSON-able document."""
        return {**asdict(self), "gpu_us": self.gpu_us}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Charge:
        """Reads back what `to_document` wrote."""
        return cls(**{f.name: document[f.name] for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to. `stream` is set instead of `body` when the function streams; its
    phases are then those known at its start, and `settled` gives its charge after its end."""

    call_id: str
    revision: str
    content_type: str
    phases: Phases
    charge: Charge
    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = field(default=None, compare=False)
    settled: Callable[[], dict[str, object]] | None = field(default=None, compare=False)
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """A published snapshot. `bytes` is the size of its files, but for the manifest.

    `golden`: whether it has an output of the function's sample to compare with;
    `first_use`: how many storages that sample uses, which lie first in its slabs;
    `workspace_bytes`: what a call of the sample needs of a GPU's memory beside the slab;
    `streams`: whether calls may run while the slab arrives, which was proved;
    `precision`: what its weights are in, None for exactly what `setup()` loaded.
    No replica starts from one that is `quarantined`.
    """

    digest: str
    bytes: int
    golden: bool = False
    first_use: int = 0
    workspace_bytes: int = 0
    streams: bool = False
    precision: Precision | None = None
    quarantined: bool = False

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> SnapshotRef:
        """Reads back what `dataclasses.asdict` and JSON have made of this."""
        precision = document.get("precision")
        known = None if precision is None else Precision.from_document(precision)
        return cls(**{**document, "precision": known})


@dataclass(frozen=True, slots=True)
class Revision:
    """An immutable build of a function: code, snapshot, options, each by digest.

    `entry` is the Python file inside the bundle, `environment` the digest of the
    function's own requirements ("" when it has none). `snapshot_reason` says why
    there is no snapshot, or none that can be used, `modules` names the installed
    modules that its code imports.
    The node never holds user types, only their interface.
    """

    id: str
    function: str
    bundle_digest: str
    entry: str
    environment: str
    snapshot: SnapshotRef | None
    snapshot_reason: str | None
    created_at_us: int
    options: Options
    interface: Interface
    modules: tuple[str, ...] = ()
