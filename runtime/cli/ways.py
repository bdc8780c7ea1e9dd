"""How a URL is reached: by HTTP, or in a way of its scheme's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from urllib.parse import SplitResult

from dsfn.functions.errors import UsageError
from dsfn.functions.urls import read_http_url
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Reached:
    """Where HTTP is spoken. `socket`: the path of the Unix socket to do so at, None for `url`'s own
    host and port. `prepare`: what is to be done here before something with these requirements is
    deployed there; it raises the tree's errors."""

    url: str
    socket: str | None = None
    prepare: Callable[[frozenset[str]], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Way:
    """How URLs of a scheme are reached. `reach` raises the tree's errors, `require_url`
    `UsageError` for one that cannot be."""

    reach: Callable[[str], AbstractContextManager[Reached]]
    require_url: Callable[[str], object]


_WAYS: dict[str, Way] = {}


def add_way(scheme: str, way: Way) -> None:
    """Has URLs of a scheme be reached by a way."""
    _WAYS[scheme] = way


@contextmanager
def reached(url: str) -> Iterator[Reached]:
    """Where a URL is to be spoken to inside the block."""
    way = _WAYS.get(_scheme(url))
    if way is None:
        yield Reached(url)
        return
    with way.reach(url) as there:
        yield there


def require_url(url: str) -> None:
    """Raises `UsageError` for a URL that cannot be reached in any way."""
    way = _WAYS.get(_scheme(url))
    if way is None:
        read_base_url(url)
    else:
        way.require_url(url)


def read_base_url(url: str) -> SplitResult:
    """An HTTP URL below which there is more, taken apart. Raises `UsageError`."""
    parts = read_http_url(url, "The URL")
    if parts.query or parts.fragment:
        raise UsageError(f"The URL is {url!r}, and nothing can be below what has a '?' or '#'.")
    return parts


def _scheme(url: str) -> str:
    scheme, found, _ = url.partition("://")
    return scheme if found else ""
