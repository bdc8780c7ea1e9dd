"""What the control service is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.control.services import ClusterSettings
from dsfn.knative.manifests.agent import agent_url
from dsfn.knative.manifests.function import ServiceSettings
from dsfn.knative.manifests.images import read_image
from dsfn.knative.manifests.secrets import LEDGER, LEDGER_KEY, require_ledger
from dsfn.knative.pod.settings import API_KEY, required, store_settings, url
from dsfn.runtime.config import (
    DEFAULT_PORT,
    AuthSettings,
    BlobSettings,
    Settings,
    SnapshotSettings,
    load_settings,
)
from dsfn.snapshots.addresses import read_bucket

DEFAULT_DATA_DIR = "/dsfn"
# In the bucket, beside what is published. Whoever leads has the same folder.
BLOBS, BLOBS_FOLDER = "blobs", "control"


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """`node`: as a node has them. `store`: where revisions are published to. `signing_key`: of the
    ledger, in PEM. `name`: this replica's; `url`: where the other one calls it."""

    node: Settings
    cluster: ClusterSettings
    store: SnapshotSettings
    name: str
    url: str
    signing_key: str = field(repr=False)

    @property
    def namespace(self) -> str:
        """The platform's."""
        return self.cluster.services.namespace


def read_settings(environ: Mapping[str, str]) -> ControlSettings:
    """The settings. Raises `UsageError`."""
    store = str(read_bucket(required(environ, "DSFN_STORE"), "DSFN_STORE"))
    address = required(environ, "POD_IP")
    node = _node(environ, store_settings(store, environ), address)
    namespace = required(environ, "DSFN_NAMESPACE")
    services = ServiceSettings(
        namespace=namespace,
        image=str(read_image(required(environ, "DSFN_FUNCTION_IMAGE"), "DSFN_FUNCTION_IMAGE")),
        store=store,
        control_url=url("DSFN_CONTROL", required(environ, "DSFN_CONTROL")).rstrip("/"),
        tenant=node.tenant,
        secret=environ.get("DSFN_FUNCTION_SECRET", ""),
        blobs=f"{store}/{BLOBS}/{BLOBS_FOLDER}",
        agent=agent_url(namespace) if environ.get("DSFN_AGENTS") == "true" else "",
    )
    shown = f"[{address}]" if ":" in address else address
    return ControlSettings(
        node=node,
        cluster=ClusterSettings(services, required(environ, API_KEY)),
        store=node.snapshots,
        name=required(environ, "POD_NAME"),
        url=f"http://{shown}:{node.port}",
        signing_key=required(environ, LEDGER_KEY),
    )


def _node(environ: Mapping[str, str], store: SnapshotSettings, address: str) -> Settings:
    """Those of a node: what the file says, but for what all replicas must have in common."""
    file = environ.get("DSFN_CONFIG")
    data_dir = Path(environ.get("DSFN_DATA") or DEFAULT_DATA_DIR)
    host = "::" if ":" in address else "0.0.0.0"
    port = environ.get("PORT") or str(DEFAULT_PORT)
    if not port.isdecimal():
        raise UsageError(f"PORT is {port!r}, and not a port.")
    ledger = required(environ, LEDGER)
    require_ledger(ledger)
    node = load_settings(host, int(port), data_dir, Path(file) if file else None)
    return replace(
        node,
        tenant=environ.get("DSFN_TENANT") or node.tenant,
        snapshots=replace(store, max_disk_bytes=node.snapshots.max_disk_bytes),
        blobs=BlobSettings(f"{store.store}/{BLOBS}", store.endpoint_url, store.region),
        auth=AuthSettings(required=True),
        ledger=ledger,
    )
