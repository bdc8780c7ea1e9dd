"""Bodies and answers as rows keep them: small bodies inline, large ones in the blob store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from dsfn.functions.attributes import MAX_EXTENSIONS
from dsfn.functions.errors import DsfnError
from dsfn.functions.event import DATAREF, Event
from dsfn.functions.values import dataclass
from dsfn.runtime.blobs import BlobStore, digest_of, reference_to
from dsfn.runtime.model import Answer, Charge, Phases

INLINE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A body inline, or the reference of its blob; neither when it is no longer kept."""

    inline: bytes | None
    ref: str | None = None


async def store_body(blobs: BlobStore, body: bytes, content_type: str) -> StoredBody:
    """Keeps a body. Raises `StorageFull`, `StoreUnavailable`."""
    if len(body) <= INLINE_BYTES:
        return StoredBody(body)
    return StoredBody(None, await blobs.save(body, content_type))


def by_reference(event: Event) -> Event:
    """The event with a `dataref` to data that are too large for a row, in place of them; others,
    and those that have one of their own, as they are. The data are not kept yet."""
    full = len(event.extensions) == MAX_EXTENSIONS
    if len(event.data) <= INLINE_BYTES or full or DATAREF in event.extensions:
        return event
    extensions = {**event.extensions, DATAREF: reference_to(event.data)}
    return replace(event, data=b"", extensions=extensions)


async def load_body(blobs: BlobStore, stored: StoredBody) -> bytes:
    """The bytes that were kept. Raises `NotFound` when their blob is gone, `CorruptBlob`,
    `StoreUnavailable`."""
    if stored.ref is None:
        return stored.inline or b""
    body, _ = await blobs.load(digest_of(stored.ref))
    return body


def answer_document(answer: Answer) -> dict[str, object]:
    """An answer without its body, as a JSON-able document."""
    return {
        "call_id": answer.call_id,
        "revision": answer.revision,
        "content_type": answer.content_type,
        "phases": asdict(answer.phases),
        "charge": asdict(answer.charge),
    }


def read_answer(document: Mapping[str, Any], body: bytes) -> Answer:
    """Reads back what `answer_document` wrote."""
    return Answer(
        call_id=document["call_id"],
        revision=document["revision"],
        content_type=document["content_type"],
        phases=Phases.from_document(document["phases"]),
        charge=Charge(**document["charge"]),
        body=body,
    )


def error_text(error: DsfnError | None) -> str | None:
    """An error as a row keeps it."""
    return None if error is None else json.dumps(error.to_document(), default=str)


def request_digest(content_type: str, body: bytes) -> bytes:
    """The digest of a content type and a body."""
    kind = content_type.encode()
    digest = hashlib.sha256(len(kind).to_bytes(4) + kind)
    digest.update(body)
    return digest.digest()
