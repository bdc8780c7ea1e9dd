"""Content types: reading them, matching them against a kind, guessing them from first bytes."""

from __future__ import annotations

from functools import lru_cache

OCTET_STREAM = "application/octet-stream"

_HEADS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (8, b"WAVE", "audio/wav"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
)


@lru_cache(maxsize=256)
def parse_content_type(value: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The media type in lower case and its parameters, of `type/subtype; name=value`."""
    media, *rest = value.split(";")
    parameters = []
    for piece in rest:
        name, _, text = piece.partition("=")
        parameters.append((name.strip().lower(), text.strip().strip('"')))
    return media.strip().lower(), tuple(parameters)


def matches(media: str, pattern: str) -> bool:
    """Whether a media type is in a range such as `image/*`."""
    if pattern == "*/*":
        return True
    if pattern.endswith("/*"):
        return media.startswith(pattern[:-1])
    return media == pattern


def sniff(data: bytes) -> str:
    """The content type that the first bytes show, `application/octet-stream` when none."""
    for at, head, content_type in _HEADS:
        if data.startswith(head, at):
            return content_type
    return OCTET_STREAM


def is_json(media: str) -> bool:
    """Whether a media type says that its bytes are JSON."""
    return media == "application/json" or media.endswith("+json")
