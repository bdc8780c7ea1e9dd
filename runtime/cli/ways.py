"""How a URL is reached: by HTTP, or in a way of its scheme's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

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


Way = Callable[[str], AbstractContextManager[Reached]]
_WAYS: dict[str, Way] = {}


def add_way(scheme: str, way: Way) -> None:
    """Has URLs of a scheme be reached by a way, which raises the tree's errors."""
    _WAYS[scheme] = way


@contextmanager
def reached(url: str) -> Iterator[Reached]:
    """Where a URL is to be spoken to inside the block."""
    way = _WAYS.get(_scheme(url))
    if way is None:
        yield Reached(url)
        return
    with way(url) as there:
        yield there


def require_url(url: str) -> None:
    """Raises `UsageError` for a URL that cannot be reached in any way."""
    if _scheme(url) not in _WAYS:
        read_http_url(url, "The URL")


def _scheme(url: str) -> str:
    return url.partition("://")[0]
