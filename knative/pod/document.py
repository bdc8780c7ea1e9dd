"""A revision as a document: canonical JSON, named by its own digest."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from hashlib import sha256
from typing import Any

from dsfn.functions.errors import DefinitionError, UsageError
from dsfn.functions.interface import Interface
from dsfn.functions.options import Options
from dsfn.functions.values import dataclass
from dsfn.runtime.model import Revision, SnapshotRef

MAX_DOCUMENT_BYTES = 4 << 20
VERSION = 1


@dataclass(frozen=True, slots=True)
class Published:
    """A revision as it is in the store. Its `bundle_digest` is that of the tar there; its workers
    are born with `libraries`."""

    revision: Revision
    libraries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Publication:
    """What a pod is to be told of a revision: `DSFN_REVISION` and `DSFN_LIBRARIES`."""

    digest: str
    libraries: tuple[str, ...]


def document_of(published: Published) -> bytes:
    """The document of a published revision."""
    revision = published.revision
    document: dict[str, Any] = {f.name: getattr(revision, f.name) for f in fields(Revision)}
    document.update(
        version=VERSION,
        options=revision.options.to_document(),
        interface=revision.interface.to_document(),
        snapshot=None if revision.snapshot is None else asdict(revision.snapshot),
        modules=list(revision.modules),
        libraries=list(published.libraries),
    )
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def digest_of(data: bytes) -> str:
    """What a document is called."""
    return sha256(data).hexdigest()


def read_document(data: bytes) -> Published:
    """The published revision that a document is. Raises `UsageError`."""
    try:
        document = json.loads(data)
        version = document.pop("version")
        if version != VERSION:
            raise ValueError(f"it is of version {version}, and this is a pod of version {VERSION}")
        snapshot, libraries = document["snapshot"], tuple(document.pop("libraries"))
        revision = Revision(
            **{
                **document,
                "options": Options.from_document(document["options"]),
                "interface": Interface.from_document(document["interface"]),
                "snapshot": None if snapshot is None else SnapshotRef.from_document(snapshot),
                "modules": tuple(document["modules"]),
            }
        )
        return Published(revision, libraries)
    except (ValueError, TypeError, KeyError, AttributeError, DefinitionError) as error:
        raise UsageError(f"The revision's document cannot be read: {error}.") from error
