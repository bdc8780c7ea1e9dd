"""A revision's way into the store and out of it again."""

from __future__ import annotations

import gzip
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from dsfn.functions.errors import BundleError, NotFound, UsageError
from dsfn.knative.pod.document import (
    MAX_DOCUMENT_BYTES,
    Publication,
    Published,
    digest_of,
    document_of,
    read_document,
)
from dsfn.knative.pod.libraries import libraries_of
from dsfn.knative.pod.store import Store
from dsfn.runtime.deploy.bundle import MAX_TAR_BYTES, pack_again
from dsfn.runtime.deploy.unpack import unpack
from dsfn.runtime.model import Revision
from dsfn.snapshots.store import FileStore
from dsfn.snapshots.transfer import Transfer


def publish(
    revision: Revision, bundles: Path, snapshots: FileStore, store: Store, timeout_s: float
) -> Publication:
    """Brings a revision of a node, with its source and its snapshot, to the store. The document
    comes last: what it names is there when it is. What is there already is
    not sent again. Blocks.

    Raises `StoreUnavailable`, and `CorruptSnapshot`, `NotFound` for a snapshot that is damaged or
    gone.
    """
    bundle = bundles / revision.bundle_digest
    source = pack_again(bundle)
    tar_digest = _tar_digest(source)
    store.objects.put(_bundle(tar_digest), source)
    if revision.snapshot is not None and not revision.snapshot.quarantined:
        _publish_snapshot(revision.snapshot.digest, snapshots, store, timeout_s)
    stored = replace(revision, bundle_digest=tar_digest)
    libraries = libraries_of(revision, bundle)
    document = document_of(Published(stored, libraries))
    digest = digest_of(document)
    store.objects.put(_document(digest), document)
    return Publication(digest, libraries)


def fetch(digest: str, bundles: Path, store: Store) -> Published:
    """The revision of a digest, its source unpacked below `bundles`. Blocks.

    Raises `UsageError` when it is not there or is not what its digest says, `StoreUnavailable`,
    `StorageFull`.
    """
    try:
        document = store.objects.get(_document(digest), MAX_DOCUMENT_BYTES)
        if digest_of(document) != digest:
            raise UsageError(f"The store has another document in the place of revision {digest}.")
        published = read_document(document)
        wanted = published.revision.bundle_digest
        source = store.objects.get(_bundle(wanted), MAX_TAR_BYTES)
        found = unpack(source, bundles)
    except NotFound as error:
        raise UsageError(f"Revision {digest} cannot be served: {error.message}") from error
    except BundleError as error:
        raise UsageError(f"The source of revision {digest} is damaged: {error.message}") from error
    if found != wanted:
        raise UsageError(f"The store has another source in the place of {wanted}.")
    return published


def _publish_snapshot(digest: str, files: FileStore, store: Store, timeout_s: float) -> None:
    if files.has(digest):
        store.snapshots.push(files.path(digest), Transfer(timeout_s))
    else:
        # Another node brought it, or this one, whose disk is new.
        store.snapshots.manifest(digest)


def _tar_digest(source: bytes) -> str:
    return sha256(gzip.decompress(source)).hexdigest()


def _document(digest: str) -> str:
    return f"revisions/{digest}.json"


def _bundle(digest: str) -> str:
    return f"bundles/{digest}.tar.gz"
