"""URLs as people write them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from dsfn.functions.errors import UsageError


def read_http_url(text: str, name: str) -> SplitResult:
    """An http or https URL with a host, taken apart; `name`: what is to be one. Raises
    `UsageError`."""
    try:
        parts = urlsplit(text)
        # A port that is no port is found only when it is asked for.
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    # `urlsplit` drops what is no character of a URL, or keeps it.
    if not is_one or any(each.isspace() or not each.isprintable() for each in text):
        raise UsageError(f"{name} is {text!r}, and not an http(s) URL.")
    return parts
