"""Requests that a pod makes itself: small, blocking, in threads of their own.

The standard library's client, because importing another takes longer than a first answer should.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import local
from urllib.parse import urlsplit

from dsfn.functions.values import dataclass

TIMEOUT_S = 5.0


class NoAnswer(Exception):
    """There was none, or none that can be read; says why in half a sentence."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether it did what it was asked for."""
        return 200 <= self.status < 300


@dataclass(eq=False)
class HttpClient:
    """Speaks to one server over connections that are kept, one for each of `threads`."""

    url: str
    threads: int = 1
    _kept: local = field(default_factory=local)
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.threads, "http")

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Reply:
        """One request. It may be made twice, where a kept connection turns out to be closed, and
        so must mean the same when it is. Raises `NoAnswer`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._ask, method, path, headers, body)

    def close(self) -> None:
        """Makes no more requests."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        kept: HTTPConnection | None = getattr(self._kept, "connection", None)
        if kept is not None:
            try:
                return self._exchange(kept, method, path, headers, body)
            except TimeoutError as error:
                raise NoAnswer("it does not answer") from error
            except (OSError, HTTPException):
                pass  # the server closes what has been silent for long
        try:
            return self._exchange(self._connection(), method, path, headers, body)
        except (OSError, HTTPException) as error:
            raise NoAnswer(str(error) or type(error).__name__) from error

    def _exchange(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Reply:
        self._kept.connection = None
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            reply = Reply(response.status, response.read())
        except BaseException:
            connection.close()
            raise
        self._kept.connection = connection
        return reply

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
