"""What the agent is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.agent.outbox import MAX_BYTES, MAX_ROWS
from dsfn.knative.manifests.agent import MAX_PREFETCHED
from dsfn.knative.manifests.words import AGENT_PORT
from dsfn.knative.pod.listening import told_port
from dsfn.knative.pod.settings import API_KEY, number, required, store_settings, url
from dsfn.runtime.config import SnapshotSettings
from dsfn.runtime.libraries import LIBRARIES, told_libraries

DEFAULT_DATA_DIR = "/var/lib/dsfn"
MAX_SNAPSHOT_BYTES = 64 << 30


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`socket`, `port`: where pods ask. `data_dir`: its part of the node's disk; `shown`: where the
    same snapshots are mounted to be read alone. `prefetch`: functions whose snapshots are brought
    before a pod asks; `libraries`: what is imported before a pod does."""

    store: SnapshotSettings
    control: str
    socket: Path
    port: int = AGENT_PORT
    api_key: str = field(default="", repr=False)
    data_dir: Path = Path(DEFAULT_DATA_DIR)
    shown: Path = Path(DEFAULT_DATA_DIR) / "snapshots"
    max_rows: int = MAX_ROWS
    max_outbox_bytes: int = MAX_BYTES
    max_snapshot_bytes: int = MAX_SNAPSHOT_BYTES
    prefetch: tuple[str, ...] = ()
    libraries: tuple[str, ...] = LIBRARIES


def read_settings(environ: Mapping[str, str]) -> AgentSettings:
    """The settings. Raises `UsageError`."""
    data_dir = Path(environ.get("DSFN_DATA") or DEFAULT_DATA_DIR)
    prefetch = tuple(name for name in environ.get("DSFN_PREFETCH", "").split(",") if name)
    if len(prefetch) > MAX_PREFETCHED:
        raise UsageError(f"DSFN_PREFETCH names more than {MAX_PREFETCHED} functions.")
    libraries = told_libraries(environ)
    return AgentSettings(
        store=store_settings(required(environ, "DSFN_STORE"), environ),
        control=url("DSFN_CONTROL", required(environ, "DSFN_CONTROL")).rstrip("/"),
        socket=Path(required(environ, "DSFN_AGENT")),
        port=told_port(environ, AGENT_PORT),
        api_key=environ.get(API_KEY, ""),
        data_dir=data_dir,
        shown=Path(environ.get("DSFN_SHOWN") or data_dir / "snapshots"),
        max_rows=number(environ, "DSFN_OUTBOX_ROWS", MAX_ROWS),
        max_outbox_bytes=number(environ, "DSFN_OUTBOX_BYTES", MAX_BYTES),
        max_snapshot_bytes=number(environ, "DSFN_SNAPSHOT_BYTES", MAX_SNAPSHOT_BYTES),
        prefetch=prefetch,
        libraries=LIBRARIES if libraries is None else libraries,
    )
