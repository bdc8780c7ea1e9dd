"""A revision as a document: canonical JSON, named by its own digest."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from hashlib import sha256
from typing import Any

from dsfn.functions.errors import DefinitionError, UsageError
from dsfn.functions.interface import Interface
from dsfn.functions.options import Options
from dsfn.runtime.model import Revision, SnapshotRef

MAX_DOCUMENT_BYTES = 4 << 20
VERSION = 1


def revision_bytes(revision: Revision) -> bytes:
    """The document of a revision."""
    document: dict[str, Any] = {f.name: getattr(revision, f.name) for f in fields(Revision)}
    document.update(
        version=VERSION,
        options=revision.options.to_document(),
        interface=revision.interface.to_document(),
        snapshot=None if revision.snapshot is None else asdict(revision.snapshot),
        modules=list(revision.modules),
    )
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def digest_of(data: bytes) -> str:
    """What a document is called."""
    return sha256(data).hexdigest()


def read_revision(data: bytes) -> Revision:
    """The revision that a document is. Raises `UsageError`."""
    try:
        document = json.loads(data)
        version = document.pop("version")
        if version != VERSION:
            raise ValueError(f"it is of version {version}, and this is a pod of version {VERSION}")
        snapshot = document["snapshot"]
        return Revision(
            **{
                **document,
                "options": Options.from_document(document["options"]),
                "interface": Interface.from_document(document["interface"]),
                "snapshot": None if snapshot is None else SnapshotRef.from_document(snapshot),
                "modules": tuple(document["modules"]),
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError, DefinitionError) as error:
        raise UsageError(f"The revision's document cannot be read: {error}.") from error
