"""Values as JSON documents: how the inputs of a run are stored."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from dsfn.runtime.blobs import BlobStore
from dsfn.runtime.events.stored import INLINE_BYTES
from dsfn.runtime.workflows.model import Blob, Value


def value_document(value: Value) -> Any:
    """A value as a JSON-able document."""
    if isinstance(value, Blob):
        document: dict[str, Any] = {"type": value.content_type, "size": value.size_bytes}
        if value.ref is not None:
            document["ref"] = value.ref
        else:
            document["base64"] = b64encode(value.inline or b"").decode()
        if value.name is not None:
            document["name"] = value.name
        return document
    if isinstance(value, Mapping):
        return {"members": {name: value_document(member) for name, member in value.items()}}
    return [value_document(item) for item in value]


def value_of(document: Any) -> Value:
    """Reads back what `value_document` wrote."""
    if isinstance(document, list):
        return [value_of(item) for item in document]
    if "members" in document:
        return {name: value_of(member) for name, member in document["members"].items()}
    inline = b64decode(document["base64"]) if "base64" in document else None
    return Blob(
        document["type"], document["size"], inline, document.get("ref"), document.get("name")
    )


def blobs_in(value: Value) -> Iterator[Blob]:
    """All blobs of a value."""
    if isinstance(value, Blob):
        yield value
        return
    for inner in value.values() if isinstance(value, Mapping) else value:
        yield from blobs_in(inner)


def fits_inline(values: Mapping[str, Value]) -> bool:
    """Whether what these values have inline is little enough to be kept in one row."""
    return sum(len(b.inline or b"") for v in values.values() for b in blobs_in(v)) <= INLINE_BYTES


def by_reference(value: Value, blobs: BlobStore) -> Value:
    """The value with everything that is inline put into the store. Raises `StorageFull`."""
    if isinstance(value, Blob):
        if value.inline is None:
            return value
        ref = blobs.put(value.inline, value.content_type)
        return Blob(value.content_type, value.size_bytes, None, ref, value.name)
    if isinstance(value, Mapping):
        return {name: by_reference(member, blobs) for name, member in value.items()}
    return [by_reference(item, blobs) for item in value]
