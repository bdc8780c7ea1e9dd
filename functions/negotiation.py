"""The `Accept` header against what a result can be (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from functools import lru_cache

from dsfn.functions.errors import NotAcceptable
from dsfn.functions.media import matches, parse_content_type

MAX_ACCEPT_CHARS = 8192


@lru_cache(maxsize=512)
def choose(accept: str, available: tuple[str, ...]) -> str:
    """The one of `available` (preferred first) that a client wants most.

    `available` may hold ranges such as `image/*`. Raises `NotAcceptable`.
    """
    ranges = ranges_of(accept)
    best = max(available, key=lambda content_type: _quality(ranges, content_type))
    if not _quality(ranges, best):
        raise NotAcceptable(
            f"The result can be given as {' or '.join(available)}, not as {accept[:200]}.",
            accept=accept[:200],
            available=list(available),
        )
    return best


def ranges_of(accept: str) -> tuple[tuple[str, float], ...]:
    """The ranges of an `Accept` header with their weights, from 0 to 1."""
    if not accept.strip():
        return (("*/*", 1.0),)
    found = []
    for piece in accept[:MAX_ACCEPT_CHARS].split(","):
        media, parameters = parse_content_type(piece)
        found.append((media, _weight(dict(parameters).get("q", "1"))))
    return tuple(found)


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def _quality(ranges: tuple[tuple[str, float], ...], content_type: str) -> float:
    media = parse_content_type(content_type)[0]
    fits = [(_specificity(r), q) for r, q in ranges if matches(media, r) or matches(r, media)]
    return max(fits)[1] if fits else 0.0


def _specificity(media_range: str) -> int:
    if media_range == "*/*":
        return 0
    return 1 if media_range.endswith("/*") else 2
