"""Clients of servers that tests start on this machine."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)


def plain_client(
    url: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    limits: httpx.Limits = _LIMITS,
) -> httpx.Client:
    """A client that speaks no TLS and knows no proxy: to read the machine's certificates takes
    40 ms of a processor, which tests that poll would spend over and over."""
    return httpx.Client(
        base_url=url,
        timeout=timeout_s,
        headers=headers,
        limits=limits,
        trust_env=False,
        verify=False,
    )


def plain_get(url: str, timeout_s: float = 5.0) -> httpx.Response:
    """One request over a connection of its own. Raises `httpx.TransportError`."""
    return httpx.get(url, timeout=timeout_s, trust_env=False, verify=False)
