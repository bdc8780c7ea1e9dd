"""References to blobs, "blob:sha256:<hex>", and where they are in other bytes."""

from __future__ import annotations

import re
from hashlib import sha256

from dsfn.functions.errors import InvalidInput
from dsfn.functions.media import is_json, parse_content_type

REF_PREFIX = "blob:sha256:"
DIGEST = re.compile(r"[0-9a-f]{64}")
_IN_TEXT = re.compile(rf"{REF_PREFIX}({DIGEST.pattern})(?![0-9a-f])")
_IN_BYTES = re.compile(_IN_TEXT.pattern.encode())


def digest_of(ref: str) -> str:
    """The digest in "blob:sha256:<hex>". Raises `InvalidInput`."""
    digest = ref.removeprefix(REF_PREFIX)
    if digest == ref or DIGEST.fullmatch(digest) is None:
        raise InvalidInput(f"{ref!r} is not a reference like {REF_PREFIX}<hex>.", field="$ref")
    return digest


def reference_to(data: bytes) -> str:
    """The reference that these bytes have, whether they are kept or not."""
    return REF_PREFIX + sha256(data).hexdigest()


def references_in(content_type: str, body: bytes) -> frozenset[str]:
    """The digests of the blobs that a body of this type refers to; only JSON can."""
    if not is_json(parse_content_type(content_type)[0]):
        return frozenset()
    return digests_in(body)


def digests_in(text: str | bytes) -> frozenset[str]:
    """The digest of every reference in a text, wherever in it that is."""
    if isinstance(text, str):
        return frozenset(_IN_TEXT.findall(text))
    return frozenset(found.decode() for found in _IN_BYTES.findall(text))
