"""The blobs of a node, where its configuration says that they are."""

from __future__ import annotations

import secrets
from pathlib import Path

from dsfn.runtime.blobs.bucket import BlobBucket
from dsfn.runtime.blobs.store import BlobStore
from dsfn.runtime.config import Settings
from dsfn.runtime.tiers.opening import open_bucket


def open_blobs(settings: Settings) -> BlobStore:
    """The blobs in the node's data directory, and in a folder of its own of the bucket if there
    is one; that is not asked anything yet.

    Raises `UsageError` when what a bucket needs is not installed.
    """
    root = settings.data_dir / "blobs"
    if not settings.blobs.store:
        return BlobStore(root)
    bucket = open_bucket(settings.blobs, name_of_node(root))
    return BlobStore(root, BlobBucket(bucket, settings.limits.transfer_timeout_s))


def name_of_node(root: Path) -> str:
    """What the folder in the bucket is called of a node whose blobs are in `root`; made up the
    first time."""
    path = root / "node"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(8), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
