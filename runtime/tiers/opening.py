"""The stores that the configuration names."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from dsfn.functions.errors import UsageError
from dsfn.runtime.config import BlobSettings, SnapshotSettings
from dsfn.runtime.notary.settings import PlaceSettings
from dsfn.snapshots.addresses import read_bucket, read_store
from dsfn.snapshots.s3 import S3SnapshotStore
from dsfn.snapshots.s3_bucket import Bucket
from dsfn.snapshots.shared import SharedDirectory
from dsfn.snapshots.store import SnapshotStore


def open_store(settings: SnapshotSettings) -> SnapshotStore | None:
    """The store, None where there is none; it is not asked anything yet.

    Raises `UsageError` when what it needs is not installed.
    """
    if not settings.store:
        return None
    address = read_store(settings.store)
    if isinstance(address, Path):
        return SharedDirectory(address)
    return S3SnapshotStore(open_bucket(settings))


def open_bucket(
    settings: SnapshotSettings | BlobSettings | PlaceSettings, folder: str = ""
) -> Bucket:
    """The part of a bucket that a `store` of "s3://BUCKET/PREFIX" names, or a folder of it.

    Raises `UsageError` when what it needs is not installed.
    """
    if find_spec("boto3") is None:
        raise UsageError(
            f"The store {settings.store} needs boto3, which is not installed: run"
            " `pip install 'dsfn[s3]'`."
        )
    address = read_bucket(settings.store)
    if folder:
        address = address.below(folder)
    return Bucket(address.bucket, address.prefix, settings.endpoint_url, settings.region)
