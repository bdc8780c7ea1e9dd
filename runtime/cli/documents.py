"""The shapes of the JSON documents that a node answers with and the command line prints."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class PrecisionDocument(TypedDict):
    """A snapshot's lower precision, as in `dsfn.runtime.precision.Precision`."""

    kind: str
    bytes_before: int
    bytes_after: int
    kept_bytes: int
    relative_error: float | None
    largest_difference: float | None
    equal_share: float | None
    differs: str | None


class SnapshotDocument(TypedDict):
    """A published snapshot. `state` is "published", or "quarantined": then replicas do without
    it. The others are as in `dsfn.runtime.model.SnapshotRef`."""

    digest: str
    bytes: int
    state: str
    golden: bool
    first_use: int
    workspace_bytes: int
    streams: bool
    precision: PrecisionDocument | None


class ContextDocument(TypedDict):
    """Whom commands talk to. `name` is null where `DSFN_URL` says so, and no context."""

    name: str | None
    url: str
    has_key: bool
    current: bool


class DeployedDocument(TypedDict):
    """One function or workflow (`kind`) of a deployment. `created` is false when this very
    revision was there."""

    kind: str
    name: str
    revision: str
    url: str | None
    snapshot: SnapshotDocument | None
    snapshot_reason: str | None
    created: bool


class SummaryDocument(TypedDict):
    """One line of `dsfn list`. `url` is null where a cluster has no Service of the function."""

    name: str
    revision: str
    state: str
    replica_count: int
    url: str | None
    created_at: str


class ReplicaDocument(TypedDict):
    """One running instance of a function. On a cluster `pod` is the name of its pod, and `pid` and
    `idle_s` are null; on a node `pod` is."""

    pid: int | None
    pod: str | None
    revision: str
    state: str
    idle_s: float | None


class CanaryDocument(TypedDict):
    """A function's last canary, as in `dsfn.runtime.canaries.canary`. `state` is "running",
    "promoted", "rolled back" or "stopped"."""

    revision: str
    baseline: str
    percent: int
    promote_after_s: float
    max_error_percent: float
    max_p99_us: int | None
    state: str
    reason: str | None
    calls: int
    failed: int
    slow: int
    started_at: str
    ended_at: str | None


class FunctionDocument(SummaryDocument):
    """All that a node tells of one function."""

    description: str
    options: dict[str, Any]
    interface: dict[str, Any]
    traffic: dict[str, int]
    canary: CanaryDocument | None
    snapshot: SnapshotDocument | None
    snapshot_reason: str | None
    replicas: list[ReplicaDocument]
    subscriptions: list[SubscriptionDocument]


class RevisionDocument(TypedDict):
    """One line of `dsfn history`, newest first."""

    revision: str
    created_at: str
    traffic_percent: int
    snapshot: SnapshotDocument | None


class RollbackDocument(TypedDict):
    """What `dsfn rollback` did."""

    name: str
    revision: str


class TrafficDocument(TypedDict):
    """How the calls of a function are shared among its revisions, in percent."""

    name: str
    traffic: dict[str, int]


class LogDocument(TypedDict):
    """One line that a function printed. `replica` is the pid of the worker, `invocation` the call
    that it ran then, null where it ran none or several; `pod`: on a cluster alone."""

    time: str
    revision: str
    replica: int
    invocation: str | None
    pod: NotRequired[str]
    stream: str
    text: str


class SubscriptionDocument(TypedDict):
    """A trigger: events whose attributes fit all three filters go to `function`, which is the
    name of a workflow when that is the `kind`.

    `origin`: "decorator" (in the function's source) or "user" (`dsfn subscribe`).
    """

    id: str
    kind: str
    function: str
    exact: dict[str, str]
    prefix: dict[str, str]
    suffix: dict[str, str]
    origin: str


class EventCounts(TypedDict):
    """Events that a node holds: waiting for delivery, and given up."""

    queued: int
    dead: int


class UpDocument(TypedDict):
    """`dsfn up`: the node that takes calls now."""

    url: str
    pid: int
    data_dir: str


class DeviceDocument(TypedDict):
    """One GPU's memory. `resident_bytes` are in replicas, `pooled_bytes` are kept for the next
    ones, `neighbour_bytes` are slabs for other GPUs, `staging_bytes` what passes through to
    those; `free_bytes` the driver has, of which `reserve_bytes` are left to others."""

    device_class: str
    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    resident_bytes: int
    pooled_bytes: int
    neighbour_bytes: int
    staging_bytes: int


class LinkDocument(TypedDict):
    """What came over a GPU's link to the host: for itself and for other GPUs, of which there are
    `peers`; and what, instead, came out of a GPU's memory."""

    peers: int
    own_bytes: int
    relayed_bytes: int
    kept_bytes: int


class MemoryDocument(TypedDict):
    """What the memory owner (process `pid`, begun anew `restarts` times) holds; process `heir_pid`
    takes over from it. `warm` counts for each GPU the spare workers that have a context."""

    arena_bytes: int
    arena_used_bytes: int
    arena_free_bytes: int
    arena_largest_free_bytes: int
    slabs: int
    coded_slabs: int
    workers: int
    mappings: int
    devices: list[DeviceDocument]
    links: list[LinkDocument]
    pid: int
    heir_pid: int | None
    restarts: int
    warm: list[int]


class StatusDocument(TypedDict):
    """`dsfn status`. `replicas` counts them by state; `memory` is null without GPUs, and without
    an owner of their memory: `memory_fault` says why there is none."""

    url: str
    pid: int
    version: str
    started_at: str
    data_dir: str
    functions: int
    replicas: dict[str, int]
    device_class: str
    memory: MemoryDocument | None
    memory_fault: str | None
    events: EventCounts


class InvocationDocument(TypedDict):
    """How far an asynchronous call is. `result` is the path of its answer."""

    id: str
    function: str
    revision: str | None
    state: str
    attempts: int
    created_at: str
    finished_at: str | None
    error: dict[str, Any] | None
    result: str | None


class ChargeDocument(TypedDict):
    """What a call used and costs, in microseconds and nano-units of `currency`."""

    device_class: str
    busy_us: int
    held_us: int
    gpu_us: int
    cost_nano: int
    currency: str


class ResultDocument(TypedDict):
    """`dsfn invoke`. `result` is a JSON value, a text, a CloudEvent in the JSON format, or
    the list of a stream's items; other bytes are in `result_base64` or in the file `output`.

    `phases_us` are the node's, `total_us` is what the caller waited.
    """

    id: str
    function: str
    revision: str
    content_type: str
    bytes: int
    result: Any
    result_base64: str | None
    output: str | None
    replayed: bool
    phases_us: dict[str, int]
    total_us: int
    charge: ChargeDocument | None


class StageDocument(TypedDict):
    """One line of a deployment's progress; the last has `result` or `problem`. `warning` is there
    when something should not be missed although the deployment goes on."""

    stage: str
    function: NotRequired[str | None]
    message: NotRequired[str]
    warning: NotRequired[bool]
    result: NotRequired[list[DeployedDocument]]
    problem: NotRequired[dict[str, Any]]


class TierDocument(TypedDict):
    """A price that holds from a quantity of a month on."""

    from_us: int
    pico_per_second: int


class RateDocument(TypedDict):
    """What a device class costs."""

    pico_per_second: int
    basis: str
    pico_per_request: int
    increment_us: int
    free_us: int
    free_requests: int
    tiers: list[TierDocument]
    tiering: str


class RateCardDocument(TypedDict):
    """Everything that a rate card says. Discounts and taxes are in hundredths of a percent."""

    currency: str
    exponent: int
    effective_from: str
    billed: list[str]
    devices: dict[str, RateDocument]
    default: RateDocument
    discounts: dict[str, int]
    tax: int
    taxes: dict[str, int]
    tax_name: str
    minimum_minor: int


class BudgetDocument(TypedDict):
    """A budget in `dsfn budgets set` and `list`. `key_id` and `function` are null where it is for
    all; `resets_at` is null where it never does."""

    id: str
    tenant: str
    key_id: str | None
    function: str | None
    period: str
    current_period: str
    currency: str
    amount_nano: int
    spent_nano: int
    reserved_nano: int
    left_nano: int
    hard: bool
    alerts: list[int]
    alerted: list[int]
    resets_at: str | None
    set_at: str


class KeyDocument(TypedDict):
    """An API key in `dsfn keys list` and `revoke`. `state`: "active", "expired" or "revoked";
    `last_used`: the day."""

    id: str
    name: str
    tenant: str
    scopes: list[str]
    functions: list[str]
    state: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used: str | None


class NewKeyDocument(KeyDocument):
    """`dsfn keys create`; `key` is the key itself."""

    key: str


class RatesRowDocument(TypedDict):
    """One rate card of `dsfn rates list`. `source`: "configuration" or "set"; `sha256`: of the
    card's canonical JSON."""

    number: int
    effective_from: str
    effective_until: str | None
    in_force: bool
    set_at: str
    source: str
    currency: str
    sha256: str


class RatesShowDocument(RatesRowDocument):
    """`dsfn rates show` and `set`."""

    card: RateCardDocument


class SnapshotRowDocument(TypedDict):
    """One snapshot of `dsfn snapshot list`. `tiers`, the fastest first: "gpu", "arena", "disk",
    "store". `quarantine` says why it is restored no more; `device` is null where its manifest is
    not on the disk."""

    digest: str
    bytes: int
    device: str | None
    functions: list[str]
    revisions: list[str]
    tiers: list[str]
    pinned: bool
    quarantine: str | None
    used_at: str | None


class DiskDocument(TypedDict):
    """What snapshots take of the disk; `max_bytes` is null where there is no limit."""

    used_bytes: int
    max_bytes: int | None


class StoreDocument(TypedDict):
    """The configured store. `fault`: why it could not be asked now, or null."""

    url: str
    fault: str | None


class SnapshotsDocument(TypedDict):
    """`dsfn snapshot list`. `store` is null where none is configured."""

    snapshots: list[SnapshotRowDocument]
    disk: DiskDocument
    store: StoreDocument | None


class StoredDocument(TypedDict):
    """How far a snapshot is on its way to the store: "none" (there is no store), "absent",
    "waiting", "pushing" or "stored". `reason`: what went wrong the last time."""

    state: str
    reason: str | None


class FileDocument(TypedDict):
    """A file of a snapshot by its sha256."""

    name: str
    bytes: int
    digest: str


class SlabDocument(TypedDict):
    """The slab of one device. The first `first_use` of its storages lie in the order in which
    the function's sample first used them."""

    device: str
    file: str
    bytes: int
    storages: int
    first_use: int


class StorageDocument(TypedDict):
    """A storage, one of the largest."""

    name: str
    dtype: str
    shape: list[int]
    bytes: int


class GoldenDocument(TypedDict):
    """The output of the function's sample that a restore must give again."""

    content_type: str
    bytes: int


class SnapshotShowDocument(SnapshotRowDocument):
    """`dsfn snapshot show`. `reload_s`: how long it takes to come back from the store. `fault`: why
    it cannot be looked into; what is below it is there only when there is none."""

    store: StoredDocument
    reload_s: float
    fault: str | None
    format_version: int
    python: str
    torch: str
    code: str
    options: str
    libraries: dict[str, str]
    files: list[FileDocument]
    slabs: list[SlabDocument]
    tensors: int
    largest: list[StorageDocument]
    golden: GoldenDocument | None


class CheckedFileDocument(TypedDict):
    """A file that was read whole and compared with its digest."""

    name: str
    bytes: int
    sound: bool


class VerifiedDocument(TypedDict):
    """`dsfn snapshot verify`. `restored`: whether a trial restore gave what was captured, null
    where none was made. `reason` says why it is not `sound`, `reinstated` which revisions start
    from it again, after a quarantine."""

    digest: str
    sound: bool
    files: list[CheckedFileDocument]
    restored: bool | None
    reason: str | None
    reinstated: list[str]


class VerifiedSlabDocument(TypedDict):
    """A slab in a replica's memory; `device` as in the snapshot's manifest."""

    device: str
    intact: bool


class VerifiedReplicaDocument(TypedDict):
    """One replica of `dsfn snapshot verify --replicas`, in the state that it was in. `intact` is
    null where there was nothing to compare; `reason` says why it is not intact or not known."""

    pid: int
    revision: str
    state: str
    slabs: list[VerifiedSlabDocument]
    intact: bool | None
    check_us: int
    reason: str | None


class VerifiedReplicasDocument(TypedDict):
    """`dsfn snapshot verify --replicas`."""

    function: str
    replicas: list[VerifiedReplicaDocument]


class CopiedDocument(TypedDict):
    """`dsfn snapshot push` and `pull`: where the snapshot is now. `reinstated` as in
    `VerifiedDocument`."""

    digest: str
    bytes: int
    tiers: list[str]
    reinstated: list[str]


class PrefetchedDocument(TypedDict):
    """One function of `dsfn snapshot prefetch`; `reason` says why it is not where it was to be."""

    function: str
    revision: str
    digest: str | None
    tiers: list[str]
    reason: str | None


class PinnedDocument(TypedDict):
    """`dsfn snapshot pin` and `unpin`."""

    digest: str
    pinned: bool


class PrunedSnapshotDocument(TypedDict):
    """A snapshot that left the disk. `reason`: "unused" or "over the limit"."""

    digest: str
    bytes: int
    reason: str


class PrunedDocument(TypedDict):
    """`dsfn snapshot prune`; with `dry_run`, what it would do."""

    dry_run: bool
    freed_bytes: int
    pruned: list[PrunedSnapshotDocument]


class ColdCallDocument(TypedDict):
    """A call that waited for its replica; `phases_us` in the order of time."""

    id: str
    revision: str
    device_class: str
    at: str
    phases_us: dict[str, int]


class TimelineDocument(TypedDict):
    """`dsfn snapshot timeline`: a function's last cold calls, newest first."""

    function: str
    calls: list[ColdCallDocument]
