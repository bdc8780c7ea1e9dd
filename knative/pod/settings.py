"""What a pod is told by its environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import field, replace
from pathlib import Path

from dsfn.functions.errors import UsageError
from dsfn.functions.urls import read_http_url
from dsfn.functions.values import dataclass
from dsfn.knative.agent.address import Address, read_address
from dsfn.knative.pod.listening import is_proved, told_port
from dsfn.runtime.config import BlobSettings, GpuSettings, Limits, SnapshotSettings
from dsfn.snapshots.addresses import read_store

DEFAULT_DATA_DIR = Path("/dsfn")
# Memory, 64 MiB of it, which every container may write to.
_SPARE_DIR = Path("/dev/shm")
# One worker is born ahead: the one that the first call needs.
LIMITS = Limits(spares=1)
# Its one replica is there, or on its way, when it may be called, and other pods may share the GPU:
# no context waits for another one.
GPU = GpuSettings(warm=0, shared=True)
API_KEY = "DSFN_API_KEY"
PROXY_PORT = "DSFN_PROXY_PORT"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class PodSettings:
    """`revision`: the digest of its document in the `store`; `proved`: whether a pod of it has been
    ready before. `control`: the URL of the control service, `api_key` what it is asked with.
    `proxy_port`: at which queue-proxy answers as long as it lives, 0 where there is none.
    `agent`: where the node's agent is, None for none. `blobs`: where those of the control service
    are, which calls refer to, None for nowhere. `sink`: where events that follow go, "" for back to
    whoever sent the first one; `overrides`: attributes that they get on their way there.
    `max_disk_bytes`: what may be in `data_dir` and the directory of temporary files together, 0
    where somebody else sees to it. `gpu`: its part of the GPUs."""

    revision: str
    store: SnapshotSettings
    control: str
    proved: bool = False
    tenant: str = "default"
    api_key: str = field(default="", repr=False)
    proxy_port: int = 0
    agent: Address | None = None
    blobs: BlobSettings | None = None
    data_dir: Path = DEFAULT_DATA_DIR
    max_disk_bytes: int = 0
    limits: Limits = LIMITS
    gpu: GpuSettings = GPU
    sink: str = ""
    overrides: Mapping[str, str] = field(default_factory=dict)


def read_settings(environ: MutableMapping[str, str]) -> PodSettings:
    """The settings. The key is taken out of `environ`, which user code will see, and a directory
    for temporary files is named there where the usual one cannot be written to. Raises
    `UsageError`."""
    if not os.access("/tmp", os.W_OK):
        environ.setdefault("TMPDIR", str(_SPARE_DIR))
    revision = required(environ, "DSFN_REVISION")
    if _DIGEST.fullmatch(revision) is None:
        raise UsageError(f"DSFN_REVISION is {revision!r}, and not the digest of a revision.")
    return PodSettings(
        revision=revision,
        store=store_settings(required(environ, "DSFN_STORE"), environ),
        control=url("DSFN_CONTROL", required(environ, "DSFN_CONTROL")).rstrip("/"),
        proved=is_proved(environ),
        tenant=environ.get("DSFN_TENANT") or "default",
        api_key=environ.pop(API_KEY, ""),
        proxy_port=told_port(environ, usual=0, name=PROXY_PORT),
        agent=read_address(agent) if (agent := environ.get("DSFN_AGENT")) else None,
        blobs=_blobs(environ.get("DSFN_BLOBS", ""), environ),
        data_dir=_data_dir(environ),
        max_disk_bytes=number(environ, "DSFN_DISK_BYTES", usual=0, least=0),
        gpu=replace(GPU, devices=_devices(environ)),
        sink=url("K_SINK", environ.get("K_SINK", "")),
        overrides=_overrides(environ.get("K_CE_OVERRIDES", "")),
    )


def _data_dir(environ: Mapping[str, str]) -> Path:
    """The one that is told, or the usual one: a volume, be it the image's, to which some runtimes
    of containers let nobody write."""
    if told := environ.get("DSFN_DATA"):
        return Path(told)
    return DEFAULT_DATA_DIR if os.access(DEFAULT_DATA_DIR, os.W_OK) else _SPARE_DIR / "dsfn"


def _devices(environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """Those that are named, None for all that the container has. Raises `UsageError`."""
    told = environ.get("DSFN_GPUS", "")
    if not told:
        return None
    names = tuple(told.split(","))
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"DSFN_GPUS is {told!r}, and names a device twice or none.")
    return names


def number(environ: Mapping[str, str], name: str, usual: int, least: int = 1) -> int:
    """A variable's whole number, or the usual one. Raises `UsageError`."""
    text = environ.get(name) or str(usual)
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise UsageError(f"{name} is {text!r}, and not a whole number from {least} on.")
    return int(text)


def store_settings(store: str, environ: Mapping[str, str]) -> SnapshotSettings:
    """A store by the URL that DSFN_STORE is; an S3 server that is not Amazon's is named as boto3
    has it. Raises `UsageError`."""
    read_store(store, "DSFN_STORE")
    return SnapshotSettings(store=store, endpoint_url=_endpoint(environ))


def _blobs(store: str, environ: Mapping[str, str]) -> BlobSettings | None:
    return BlobSettings(store, _endpoint(environ)) if store else None


def _endpoint(environ: Mapping[str, str]) -> str:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if said := environ.get(name):
            return url(name, said)
    return ""


def required(environ: Mapping[str, str], name: str) -> str:
    """A variable that must be set. Raises `UsageError`."""
    value = environ.get(name, "")
    if not value:
        raise UsageError(f"{name} is not set; docs/knative.md says what is needed.")
    return value


def url(name: str, value: str) -> str:
    """A variable's value, a URL if it is anything. Raises `UsageError`."""
    if value:
        read_http_url(value, name)
    return value


def _overrides(text: str) -> dict[str, str]:
    """Reads K_CE_OVERRIDES, `{"extensions": {"name": "value"}}`."""
    try:
        document = json.loads(text or "{}")
        extensions = document.get("extensions") or {}
        if all(_ATTRIBUTE.fullmatch(n) and isinstance(v, str) for n, v in extensions.items()):
            return dict(extensions)
    except (ValueError, AttributeError):
        pass
    raise UsageError(f"K_CE_OVERRIDES is {text!r}, and no overrides of a CloudEvent.")
