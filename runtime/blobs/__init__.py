"""Bytes by their own digest: what large inputs and results are kept in."""

from __future__ import annotations

from dsfn.runtime.blobs.references import REF_PREFIX, digest_of, reference_to, references_in
from dsfn.runtime.blobs.store import DEFAULT_CONTENT_TYPE, BlobStore

__all__ = [
    "DEFAULT_CONTENT_TYPE",
    "REF_PREFIX",
    "BlobStore",
    "digest_of",
    "reference_to",
    "references_in",
]
