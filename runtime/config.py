"""Configuration, read once: arguments, then environment, then DIR/config.toml, then defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from dsfn.functions.errors import DefinitionError, UsageError
from dsfn.functions.options import parse_bytes
from dsfn.functions.urls import read_http_url
from dsfn.functions.values import dataclass
from dsfn.runtime.libraries import LIBRARIES, chosen_libraries
from dsfn.runtime.notary.settings import PlaceSettings, read_places
from dsfn.runtime.outbox.settings import SinkSettings, read_sinks
from dsfn.snapshots.addresses import read_bucket, read_store

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8700
MAX_WARM = 16
_NAMES = ("host", "port", "tenant", "libraries")
_TABLES = ("limits", "gpu", "snapshots", "blobs", "auth", "billing", "invoices")


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of a node; `[limits]` of config.toml overrides them by name.

    `head_timeout_s`: how long a request's head may take to arrive, `max_head_bytes` how
    large it may be. `queue_timeout_s`: how long a call waits for a replica. `start_timeout_s`: how
    long a replica may take to start. `body_timeout_s`: how long a request's body
    may take to arrive. `cancel_grace_s`: how long user code may go on after its
    call was cancelled, before its replica is killed. `max_output_bytes`: what one
    call may print. `shutdown_timeout_s`: how long calls may go on once the node was
    told to stop; less than `dsfn down` waits. `transfer_timeout_s`: how long one copy of a
    snapshot to or from the store may take. `spares`: workers forked ahead.
    `max_connections`: open at once. `max_failed_restores`: of a snapshot, which is
    quarantined then.
    """

    max_head_bytes: int = 64 << 10
    max_body_bytes: int = 64 << 20
    max_result_bytes: int = 64 << 20
    max_waiting_bytes: int = 1 << 30
    max_output_bytes: int = 16 << 20
    max_connections: int = 4096
    queue_timeout_s: float = 30.0
    start_timeout_s: float = 600.0
    discover_timeout_s: float = 60.0
    setup_timeout_s: float = 600.0
    head_timeout_s: float = 15.0
    body_timeout_s: float = 60.0
    cancel_grace_s: float = 2.0
    shutdown_timeout_s: float = 20.0
    transfer_timeout_s: float = 1800.0
    spares: int = 2
    max_failed_restores: int = 3

    def __post_init__(self) -> None:
        for f in fields(self):
            if getattr(self, f.name) < 0:
                raise UsageError(f"The limit {f.name} must not be negative.")


@dataclass(frozen=True, slots=True)
class GpuSettings:
    """The `[gpu]` table: what the memory owner holds.

    `devices`: None for every GPU of the machine. `arena_bytes`: pinned host memory for weights
    that are on no GPU; None for half of what is free. `reserve_bytes`: of each GPU, left to
    others. `context_bytes`: what a process needs of a GPU beside its weights. `warm`:
    workers for each GPU that have a context before anybody needs them. `shared`: whether other
    memory owners may use the GPUs too: what nobody needs now goes back to the driver at once.
    """

    devices: tuple[str, ...] | None = None
    arena_bytes: int | None = None
    reserve_bytes: int = 512 << 20
    context_bytes: int = 768 << 20
    warm: int = 1
    shared: bool = False

    def __post_init__(self) -> None:
        if self.arena_bytes == 0:
            raise UsageError("gpu.arena must be more than 0 bytes: weights pass through it.")


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """The `[snapshots]` table: where snapshots are kept beside the node's own disk.

    `store`: "s3://BUCKET/PREFIX", "file:///DIRECTORY", or "" for none. `endpoint_url` and `region`
    of the S3 server; "" leaves them to boto3's own configuration, as credentials always are.
    `max_disk_bytes`: what snapshots may take of the disk, 0 for all of it.
    """

    store: str = ""
    endpoint_url: str = ""
    region: str = ""
    max_disk_bytes: int = 0

    def __post_init__(self) -> None:
        if self.store:
            read_store(self.store, "snapshots.store")
        if self.endpoint_url:
            read_http_url(self.endpoint_url, "snapshots.endpoint_url")


@dataclass(frozen=True, slots=True)
class BlobSettings:
    """The `[blobs]` table: where large inputs and results are kept beside the node's own disk.

    `store`: "s3://BUCKET/PREFIX", or "" for none. `endpoint_url` and `region` are as those of
    `SnapshotSettings`.
    """

    store: str = ""
    endpoint_url: str = ""
    region: str = ""

    def __post_init__(self) -> None:
        if self.store:
            read_bucket(self.store, "blobs.store")
        if self.endpoint_url:
            read_http_url(self.endpoint_url, "blobs.endpoint_url")


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """The `[auth]` table. `required`: whether a request needs an API key. Where none is needed,
    one without a key is the configured tenant's and may do everything."""

    required: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """What a node needs to know before it starts. `billing` is the raw `[billing]` table without
    what is not about rates: `checkpoints`, the places that these are put to, `ledger`, the URL of
    its PostgreSQL database, "" for the file in the data directory, and `outbox`, the receivers of
    usage. `invoices` is the raw `[invoices]` table. `libraries`: what workers are born with."""

    data_dir: Path
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    tenant: str = "default"
    libraries: tuple[str, ...] = LIBRARIES
    limits: Limits = Limits()
    gpu: GpuSettings = GpuSettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    blobs: BlobSettings = BlobSettings()
    auth: AuthSettings = AuthSettings()
    billing: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: tuple[PlaceSettings, ...] = ()
    ledger: str = field(default="", repr=False)
    outbox: tuple[SinkSettings, ...] = ()
    invoices: Mapping[str, Any] = field(default_factory=dict)


def default_data_dir() -> Path:
    """DSFN_DATA, or `dsfn` in the user's data directory."""
    chosen = os.environ.get("DSFN_DATA")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "dsfn"


def load_settings(
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    config: Path | None = None,
) -> Settings:
    """The settings of a node in `data_dir`, where its config.toml is if `config` does not say so.
    Raises `UsageError` on what makes no sense."""
    directory = (data_dir or default_data_dir()).expanduser().absolute()
    table = _read_toml(config or directory / "config.toml")
    known = {*_NAMES, *_TABLES}
    if unknown := sorted(set(table) - known):
        raise UsageError(f"config.toml has an unknown entry {unknown[0]!r}.")
    chosen_port = port if port is not None else table.get("port", DEFAULT_PORT)
    if not isinstance(chosen_port, int) or not 0 <= chosen_port <= 65_535:
        raise UsageError(f"{chosen_port!r} is not a port; choose one from 0 to 65535.")
    billing = dict(_table(table, "billing"))
    checkpoints = read_places(billing.pop("checkpoints", []))
    outbox = read_sinks(billing.pop("outbox", {}))
    ledger = billing.pop("ledger", "")
    if not isinstance(ledger, str):
        raise UsageError("billing.ledger must be a text: postgresql://USER@HOST:PORT/DATABASE.")
    return Settings(
        data_dir=directory,
        host=str(host or table.get("host", DEFAULT_HOST)),
        port=chosen_port,
        tenant=str(table.get("tenant", "default")),
        libraries=_libraries(table.get("libraries", list(LIBRARIES))),
        limits=_limits(_table(table, "limits")),
        gpu=_gpu(_table(table, "gpu")),
        snapshots=_snapshots(_table(table, "snapshots")),
        blobs=_blobs(_table(table, "blobs")),
        auth=_auth(_table(table, "auth")),
        billing=billing,
        checkpoints=checkpoints,
        ledger=ledger,
        outbox=outbox,
        invoices=_table(table, "invoices"),
    )


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib  # a pod has settings too, but no such file

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, Mapping):
        raise UsageError(f"[{name}] in config.toml must be a table.")
    return table


def _libraries(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UsageError('libraries must be a list of texts, such as ["torch", "numpy"].')
    return chosen_libraries("libraries in config.toml", value)


def _gpu(table: Mapping[str, Any]) -> GpuSettings:
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name == "devices":
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise UsageError('gpu.devices must be a list of texts, such as ["cuda:0"].')
            if len(set(value)) < len(value):
                raise UsageError("gpu.devices names a device twice.")
            values[name] = tuple(value)
        elif name == "warm":
            if type(value) is not int or not 0 <= value <= MAX_WARM:
                raise UsageError(f"gpu.warm must be a whole number from 0 to {MAX_WARM}.")
            values[name] = value
        elif name in ("arena", "reserve", "context"):
            values[f"{name}_bytes"] = _size(f"gpu.{name}", value)
        else:
            raise UsageError(f"config.toml has an unknown entry gpu.{name}.")
    return GpuSettings(**values)


def _snapshots(table: Mapping[str, Any]) -> SnapshotSettings:
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name == "max_disk_bytes":
            values[name] = _size("snapshots.max_disk_bytes", value)
        else:
            values[name] = _text(SnapshotSettings, f"snapshots.{name}", value)
    return SnapshotSettings(**values)


def _blobs(table: Mapping[str, Any]) -> BlobSettings:
    texts = {name: _text(BlobSettings, f"blobs.{name}", value) for name, value in table.items()}
    return BlobSettings(**texts)


def _auth(table: Mapping[str, Any]) -> AuthSettings:
    for name, value in table.items():
        if name != "required":
            raise UsageError(f"config.toml has an unknown entry auth.{name}.")
        if not isinstance(value, bool):
            raise UsageError("auth.required must be true or false.")
    return AuthSettings(**table)


def _text(settings: type[Any], entry: str, value: object) -> str:
    """The text that an entry of a table of `settings` is."""
    if entry.partition(".")[2] not in {f.name for f in fields(settings)}:
        raise UsageError(f"config.toml has an unknown entry {entry}.")
    if not isinstance(value, str):
        raise UsageError(f"{entry} must be a text.")
    return value


def _size(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UsageError(f"{name} must be a size, such as '16GiB'.")
    try:
        size_bytes = parse_bytes(value)
    except DefinitionError:
        raise UsageError(f"{name} must be a size, such as '16GiB', not {value!r}.") from None
    if size_bytes < 0:
        raise UsageError(f"{name} must not be negative.")
    return size_bytes


def _limits(table: Mapping[str, Any]) -> Limits:
    kinds = {f.name: type(getattr(Limits(), f.name)) for f in fields(Limits)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in kinds:
            raise UsageError(f"config.toml has an unknown limit {name!r}.")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError(f"The limit {name} must be a number.")
        values[name] = kinds[name](value)
    return Limits(**values)
